import static io.opentelemetry.api.common.AttributeKey.booleanArrayKey;
import static io.opentelemetry.api.common.AttributeKey.booleanKey;
import static io.opentelemetry.api.common.AttributeKey.doubleArrayKey;
import static io.opentelemetry.api.common.AttributeKey.doubleKey;
import static io.opentelemetry.api.common.AttributeKey.longArrayKey;
import static io.opentelemetry.api.common.AttributeKey.longKey;
import static io.opentelemetry.api.common.AttributeKey.stringArrayKey;
import static io.opentelemetry.api.common.AttributeKey.stringKey;

import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.api.logs.LogRecordBuilder;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.metrics.DoubleHistogram;
import io.opentelemetry.api.metrics.LongCounter;
import io.opentelemetry.api.metrics.LongUpDownCounter;
import io.opentelemetry.api.metrics.Meter;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanBuilder;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.trace.ReadableSpan;
import io.opentelemetry.sdk.trace.data.SpanData;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** The spans, log records and metric points of the contract. */
final class Signals {
  private static final String SCOPE = "contract";
  private static final String VERSION = "1.2.3";

  /** By number mod 5. */
  private static final List<SpanKind> KINDS =
      List.of(
          SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.PRODUCER, SpanKind.CONSUMER);

  /** OTLP's numbers of {@link #KINDS}. */
  private static final List<Integer> KIND_NUMBERS = List.of(2, 3, 1, 4, 5);

  /** By number mod 6. */
  private static final List<Severity> SEVERITIES =
      List.of(
          Severity.TRACE,
          Severity.DEBUG,
          Severity.INFO,
          Severity.WARN,
          Severity.ERROR,
          Severity.FATAL);

  private final OpenTelemetrySdk sdk;
  private final int count;
  private final List<Map<String, Object>> spans = new ArrayList<>();
  private Context inRoot = Context.root();

  Signals(OpenTelemetrySdk sdk, int count) {
    this.sdk = sdk;
    this.count = count;
  }

  void make() {
    makeSpans();
    makeLogs();
    makePoints();
  }

  /** What the report says of each span, by number. */
  List<Map<String, Object>> spans() {
    return spans;
  }

  String traceId() {
    return Span.fromContext(inRoot).getSpanContext().getTraceId();
  }

  /** How many points each metric has. */
  Map<String, Object> points() {
    return Map.of(
        "contract.requests", count,
        "contract.in_flight", 1,
        "contract.temperature", 1,
        "contract.latency", 1,
        "contract.size", 1);
  }

  private void makeSpans() {
    Tracer tracer = sdk.tracerBuilder(SCOPE).setInstrumentationVersion(VERSION).build();
    Span root =
        span(tracer, "root", 0)
            .setAttribute("text", "Grüße \uD83E\uDD80")
            .setAttribute("blank", "")
            .setAttribute("int", 9007199254740991L)
            .setAttribute("long", Long.MIN_VALUE)
            .setAttribute(doubleKey("double"), 0.1)
            .setAttribute(booleanKey("yes"), true)
            .setAttribute(stringArrayKey("texts"), List.of("a", "b"))
            .setAttribute(longArrayKey("ints"), List.of(1L, -2L))
            .setAttribute(doubleArrayKey("doubles"), List.of(1.5, -0.5))
            .setAttribute(booleanArrayKey("bools"), List.of(true, false))
            .startSpan();
    root.addEvent("received", Attributes.of(longKey("items"), 3L));
    inRoot = root.storeInContext(Context.root());
    for (int number = 1; number < count; number++) {
      SpanBuilder item = span(tracer, "item " + number, number).setParent(inRoot);
      if (number == 1) {
        item.setAttribute("correlation.id", "order-4711")
            .setAttribute("db.system.name", "postgresql")
            .addLink(root.getSpanContext(), Attributes.of(stringKey("why"), "contract"));
      }
      spans.add(ended(item.startSpan(), number));
    }
    spans.add(0, ended(root, 0));
  }

  private static SpanBuilder span(Tracer tracer, String name, int number) {
    return tracer
        .spanBuilder(name)
        .setNoParent()
        .setSpanKind(KINDS.get(number % 5))
        .setAttribute("number", number);
  }

  private static Map<String, Object> ended(Span span, int number) {
    if (number % 5 == 1) {
      span.setStatus(StatusCode.ERROR, "deadlock detected");
    } else if (number % 5 == 2) {
      span.setStatus(StatusCode.OK);
    }
    span.end();
    SpanData read = ((ReadableSpan) span).toSpanData();
    return Map.of(
        "spanId", read.getSpanId(),
        "name", read.getName(),
        "kind", KIND_NUMBERS.get(number % 5),
        "status", read.getStatus().getStatusCode().name(),
        "start", Long.toString(read.getStartEpochNanos()),
        "duration", read.getEndEpochNanos() - read.getStartEpochNanos());
  }

  private void makeLogs() {
    Logger logger =
        sdk.getSdkLoggerProvider()
            .loggerBuilder(SCOPE)
            .setInstrumentationVersion(VERSION)
            .build();
    for (int number = 0; number < count; number++) {
      Severity severity = SEVERITIES.get(number % 6);
      LogRecordBuilder record =
          logger
              .logRecordBuilder()
              .setTimestamp(Instant.now())
              .setSeverity(severity)
              .setSeverityText(severity.name())
              .setAttribute(longKey("number"), (long) number)
              .setBody("log " + number)
              .setContext(number % 2 == 0 ? inRoot : Context.root());
      if (number == 1) {
        record.setEventName("contract.happened");
      } else if (number == 2) {
        record.setBody(
            Value.of(
                Map.of(
                    "text", Value.of("a"),
                    "n", Value.of(1),
                    "list", Value.of(Value.of(1), Value.of("b")))));
      }
      record.emit();
    }
  }

  private void makePoints() {
    Meter meter = sdk.meterBuilder(SCOPE).setInstrumentationVersion(VERSION).build();
    LongCounter requests = meter.counterBuilder("contract.requests").setUnit("{request}").build();
    for (long series = 0; series < count; series++) {
      requests.add(series + 1, Attributes.of(longKey("series"), series));
    }
    LongUpDownCounter inFlight =
        meter.upDownCounterBuilder("contract.in_flight").setUnit("{request}").build();
    inFlight.add(5);
    inFlight.add(-7);
    meter.gaugeBuilder("contract.temperature").setUnit("Cel").build().set(21.5);
    DoubleHistogram latency = meter.histogramBuilder("contract.latency").setUnit("ms").build();
    List.of(1.0, 10.0, 100.5).forEach(latency::record);
    DoubleHistogram size = meter.histogramBuilder("contract.size").setUnit("By").build();
    List.of(1.0, 2.0, 4.0).forEach(size::record);
  }
}
