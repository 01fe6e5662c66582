// The contract in Node:
//
//     OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 node run.js http/protobuf 100

import { send } from './contract.js';

const PACKAGES = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' };

const [protocol, count] = process.argv.slice(2);
const name = PACKAGES[protocol];
if (!name || !count) {
  console.error(`usage: node run.js ${Object.keys(PACKAGES).join('|')} <count>`);
  process.exit(2);
}
const { OTLPTraceExporter } = await import(`@opentelemetry/exporter-trace-otlp-${name}`);
const { OTLPLogExporter } = await import(`@opentelemetry/exporter-logs-otlp-${name}`);
const { OTLPMetricExporter } = await import(`@opentelemetry/exporter-metrics-otlp-${name}`);

const sent = await send(protocol, Number(count), {
  traces: new OTLPTraceExporter(),
  logs: new OTLPLogExporter(),
  metrics: new OTLPMetricExporter(),
});
// Without a shutdown, which would export the metrics a second time.
process.stdout.write(`${JSON.stringify(sent)}\n`, () => process.exit(sent.failures.length ? 1 : 0));
