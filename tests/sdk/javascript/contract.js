// Sends the telemetry of tests/sdk/README.md by OpenTelemetry's JavaScript SDK, at its defaults. It runs in Node and
// in a browser alike: what differs, the exporters, is passed in.

import {
  DiagLogLevel,
  ROOT_CONTEXT,
  SeverityNumber,
  SpanKind,
  SpanStatusCode,
  ValueType,
  diag,
  trace,
} from '@opentelemetry/api';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { AggregationType, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

import installed from './package.json' with { type: 'json' };

const KINDS = [SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.PRODUCER, SpanKind.CONSUMER];
const KIND_NUMBERS = [2, 3, 1, 4, 5];
const STATUSES = ['UNSET', 'ERROR', 'OK', 'UNSET', 'UNSET'];
const SEVERITIES = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
const SCOPE = ['contract', '1.2.3'];
const PATIENCE = { timeoutMillis: 300_000 };
const ROOT_ATTRIBUTES = {
  text: 'Grüße \u{1F980}',
  blank: '',
  int: Number.MAX_SAFE_INTEGER,
  double: 0.1,
  yes: true,
  texts: ['a', 'b'],
  ints: [1, -2],
  doubles: [1.5, -0.5],
  bools: [true, false],
};

/** The exporters tell of failures to the diagnostics alone: errors are failures, warnings are retries. */
function listen() {
  const failures = [];
  const print = (...args) => console.error(...args);
  const fail = (...args) => {
    print(...args);
    failures.push(args.map(String).join(' ').slice(0, 300));
  };
  diag.setLogger({ error: fail, warn: print, info: print, debug() {}, verbose() {} }, DiagLogLevel.INFO);
  return failures;
}

/** Makes the trace, and returns its context and what it consists of. */
function sendSpans(tracer, count) {
  const root = tracer.startSpan('root', { kind: KINDS[0], attributes: { number: 0, ...ROOT_ATTRIBUTES } }, ROOT_CONTEXT);
  root.addEvent('received', { items: 3 });
  const inRoot = trace.setSpan(ROOT_CONTEXT, root);
  const spans = [root];
  for (let number = 1; number < count; number++) {
    const attributes = { number };
    const links = [];
    if (number === 1) {
      Object.assign(attributes, { 'correlation.id': 'order-4711', 'db.system.name': 'postgresql' });
      links.push({ context: root.spanContext(), attributes: { why: 'contract' } });
    }
    const span = tracer.startSpan(`item ${number}`, { kind: KINDS[number % 5], attributes, links }, inRoot);
    if (number % 5 === 1) span.setStatus({ code: SpanStatusCode.ERROR, message: 'deadlock detected' });
    if (number % 5 === 2) span.setStatus({ code: SpanStatusCode.OK });
    span.end();
    spans.push(span);
  }
  root.end();
  const nanoseconds = ([seconds, rest]) => BigInt(seconds) * 1_000_000_000n + BigInt(rest);
  const sent = spans.map((span, number) => ({
    spanId: span.spanContext().spanId,
    name: span.name,
    kind: KIND_NUMBERS[number % 5],
    status: STATUSES[number % 5],
    start: String(nanoseconds(span.startTime)),
    duration: Number(nanoseconds(span.endTime) - nanoseconds(span.startTime)),
  }));
  return [inRoot, sent];
}

function sendLogs(logger, count, inRoot) {
  for (let number = 0; number < count; number++) {
    const severity = SEVERITIES[number % 6];
    logger.emit({
      timestamp: Date.now(),
      context: number % 2 === 0 ? inRoot : ROOT_CONTEXT,
      severityNumber: SeverityNumber[severity],
      severityText: severity,
      body: number === 2 ? { text: 'a', n: 1, list: [1, 'b'] } : `log ${number}`,
      attributes: { number },
      eventName: number === 1 ? 'contract.happened' : undefined,
    });
  }
}

function sendPoints(meter, count) {
  const integers = { unit: '{request}', valueType: ValueType.INT };
  const requests = meter.createCounter('contract.requests', integers);
  for (let series = 0; series < count; series++) requests.add(series + 1, { series });
  const inFlight = meter.createUpDownCounter('contract.in_flight', integers);
  inFlight.add(5);
  inFlight.add(-7);
  meter.createGauge('contract.temperature', { unit: 'Cel' }).record(21.5);
  for (const [name, unit, values] of [['latency', 'ms', [1, 10, 100.5]], ['size', 'By', [1, 2, 4]]]) {
    const histogram = meter.createHistogram(`contract.${name}`, { unit });
    for (const value of values) histogram.record(value);
  }
}

/** `exporters` has one of each signal: `traces`, `logs`, `metrics`. Returns what is printed, all of the contract's keys. */
export async function send(protocol, count, exporters) {
  const failures = listen();
  const resource = resourceFromAttributes({ 'service.name': 'sdk-javascript', 'cloud.provider': 'aws' });
  const traces = new TracerProvider({ resource, spanProcessors: [new BatchSpanProcessor({ exporter: exporters.traces })] });
  const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: exporters.logs })] });
  const metrics = new MeterProvider({
    resource,
    readers: [new PeriodicExportingMetricReader({ exporter: exporters.metrics })],
    views: [{ instrumentName: 'contract.size', aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }],
  });

  const [inRoot, spans] = sendSpans(traces.getTracer(...SCOPE), count);
  sendLogs(logs.getLogger(...SCOPE), count, inRoot);
  sendPoints(metrics.getMeter(...SCOPE), count);

  const flushStarted = Date.now();
  const flushes = await Promise.allSettled([traces, logs, metrics].map((provider) => provider.forceFlush(PATIENCE)));
  const flushEnded = Date.now();
  for (const flush of flushes) {
    if (flush.status === 'rejected') failures.push(String(flush.reason).slice(0, 300));
  }
  return {
    sdk: `opentelemetry-js ${installed.dependencies['@opentelemetry/sdk-trace']}`,
    protocol,
    traceId: trace.getSpanContext(inRoot).traceId,
    spans,
    logs: count,
    points: {
      'contract.requests': count,
      'contract.in_flight': 1,
      'contract.temperature': 1,
      'contract.latency': 1,
      'contract.size': 1,
    },
    has: ['event name', 'map body', 'exponential histogram'],
    flushStarted,
    flushEnded,
    failures,
  };
}
