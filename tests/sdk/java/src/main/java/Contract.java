import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.metrics.Aggregation;
import io.opentelemetry.sdk.metrics.InstrumentSelector;
import io.opentelemetry.sdk.metrics.View;
import io.opentelemetry.sdk.resources.Resource;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.Logger;

/**
 * An application on the OpenTelemetry SDK for Java, as tests/sdk/README.md says. Configured as most are, by the SDK's own
 * autoconfiguration; all is at its default but the endpoint and the resource.
 */
public final class Contract {
  /** The SDK tells of failed exports in log lines alone. */
  private static final class Failures extends Handler {
    final List<String> texts = new ArrayList<>();

    @Override
    public synchronized void publish(LogRecord line) {
      if (line.getLevel().intValue() < Level.WARNING.intValue()) {
        return;
      }
      String cause = line.getThrown() == null ? "" : ": " + line.getThrown();
      String text = line.getMessage() + cause;
      texts.add(text.substring(0, Math.min(text.length(), 300)));
    }

    synchronized List<String> soFar() {
      return List.copyOf(texts);
    }

    @Override
    public void flush() {}

    @Override
    public void close() {}
  }

  public static void main(String[] arguments) {
    if (arguments.length != 2 || !List.of("grpc", "http/protobuf").contains(arguments[0])) {
      System.err.println("usage: <grpc | http/protobuf> <count from 10 to 1000>");
      System.exit(2);
    }
    String protocol = arguments[0];
    int count = Integer.parseInt(arguments[1]);
    Failures failures = new Failures();
    // Held by a variable, as the registry of loggers holds none.
    Logger logger = Logger.getLogger("io.opentelemetry");
    logger.addHandler(failures);

    OpenTelemetrySdk sdk = sdk(protocol);
    Signals signals = new Signals(sdk, count);
    signals.make();

    long started = System.currentTimeMillis();
    // A flush alone: a shutdown of the meter provider would export every point once more.
    List<CompletableResultCode> flushes =
        List.of(
            sdk.getSdkTracerProvider().forceFlush(),
            sdk.getSdkLoggerProvider().forceFlush(),
            sdk.getSdkMeterProvider().forceFlush());
    boolean flushed = CompletableResultCode.ofAll(flushes).join(300, TimeUnit.SECONDS).isSuccess();
    long ended = System.currentTimeMillis();

    List<String> failed = new ArrayList<>(failures.soFar());
    if (!flushed && failed.isEmpty()) {
      failed.add("a flush was not successful");
    }
    String version =
        Resource.getDefault().getAttribute(AttributeKey.stringKey("telemetry.sdk.version"));
    Map<String, Object> said = new HashMap<>();
    said.put("sdk", "opentelemetry-java " + version);
    said.put("protocol", protocol);
    said.put("traceId", signals.traceId());
    said.put("spans", signals.spans());
    said.put("logs", count);
    said.put("points", signals.points());
    said.put("has", List.of("long", "event name", "map body", "exponential histogram"));
    said.put("flushStarted", started);
    said.put("flushEnded", ended);
    said.put("failures", failed);
    System.out.println(Json.of(said));
    System.exit(failed.isEmpty() ? 0 : 1);
  }

  private static OpenTelemetrySdk sdk(String protocol) {
    Map<String, String> settings = new HashMap<>();
    settings.put("otel.resource.attributes", "service.name=sdk-java,cloud.provider=aws");
    // gRPC is this SDK's default.
    if (!protocol.equals("grpc")) {
      settings.put("otel.exporter.otlp.protocol", protocol);
    }
    return AutoConfiguredOpenTelemetrySdk.builder()
        .addPropertiesSupplier(() -> settings)
        .addMeterProviderCustomizer(
            (builder, unused) ->
                builder.registerView(
                    InstrumentSelector.builder().setName("contract.size").build(),
                    View.builder()
                        .setAggregation(Aggregation.base2ExponentialBucketHistogram())
                        .build()))
        .disableShutdownHook()
        .build()
        .getOpenTelemetrySdk();
  }
}
