// The contract in a web page, which calls this once.

import { OTLPLogExporter as JsonLogs } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtoLogs } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPMetricExporter as JsonMetrics } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtoMetrics } from '@opentelemetry/exporter-metrics-otlp-proto';
import { OTLPTraceExporter as JsonTraces } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoTraces } from '@opentelemetry/exporter-trace-otlp-proto';

import { send } from './contract.js';

const EXPORTERS = {
  'http/protobuf': [ProtoTraces, ProtoLogs, ProtoMetrics],
  'http/json': [JsonTraces, JsonLogs, JsonMetrics],
};

// A page has no environment: the endpoint, and a token where one is asked for, are all that it sets.
window.sendContract = ({ endpoint, protocol, count, headers }) => {
  const [Traces, Logs, Metrics] = EXPORTERS[protocol];
  return send(protocol, count, {
    traces: new Traces({ url: `${endpoint}/v1/traces`, headers }),
    logs: new Logs({ url: `${endpoint}/v1/logs`, headers }),
    metrics: new Metrics({ url: `${endpoint}/v1/metrics`, headers }),
  });
};
