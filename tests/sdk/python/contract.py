"""Sends the telemetry of tests/sdk/README.md by OpenTelemetry's Python SDK, at its defaults but for the endpoint.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 python contract.py http/protobuf 100
"""

import importlib
import importlib.metadata
import json
import logging
import os
import sys
import threading
import time

from opentelemetry import context, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

PACKAGES = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
    "http/json": "opentelemetry.exporter.otlp.json.http",
}
KINDS = [SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.PRODUCER, SpanKind.CONSUMER]
KIND_NUMBERS = [2, 3, 1, 4, 5]
SEVERITIES = [
    (SeverityNumber.TRACE, "TRACE"),
    (SeverityNumber.DEBUG, "DEBUG"),
    (SeverityNumber.INFO, "INFO"),
    (SeverityNumber.WARN, "WARN"),
    (SeverityNumber.ERROR, "ERROR"),
    (SeverityNumber.FATAL, "FATAL"),
]
SCOPE = ("contract", "1.2.3")
ROOT_ATTRIBUTES = {
    "text": "Grüße \U0001F980",
    "blank": "",
    "int": 2**53 - 1,
    "long": -(2**63),
    "double": 0.1,
    "yes": True,
    "texts": ["a", "b"],
    "ints": [1, -2],
    "doubles": [1.5, -0.5],
    "bools": [True, False],
}


class Failures(logging.Handler):
    """Collects failures, which the exporters report in log lines alone: errors are failures, warnings are retries."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        line = record.getMessage()
        print(f"{record.levelname}: {line}", file=sys.stderr)
        if record.levelno >= logging.ERROR:
            self.lines.append(line[:300])


def send_spans(tracer, count):
    """Sends the trace; returns its context and its spans."""
    spans = []
    root = tracer.start_span("root", kind=KINDS[0], attributes={"number": 0, **ROOT_ATTRIBUTES})
    spans.append(root)
    root.add_event("received", {"items": 3})
    in_root = trace.set_span_in_context(root)
    for number in range(1, count):
        attributes = {"number": number}
        links = []
        if number == 1:
            attributes |= {"correlation.id": "order-4711", "db.system.name": "postgresql"}
            links = [Link(root.get_span_context(), {"why": "contract"})]
        span = tracer.start_span(f"item {number}", in_root, KINDS[number % 5], attributes, links)
        if number % 5 == 1:
            span.set_status(Status(StatusCode.ERROR, "deadlock detected"))
        elif number % 5 == 2:
            span.set_status(StatusCode.OK)
        span.end()
        spans.append(span)
    root.end()
    return in_root, [
        {
            "spanId": format(span.context.span_id, "016x"),
            "name": span.name,
            "kind": KIND_NUMBERS[number % 5],
            "status": span.status.status_code.name,
            "start": str(span.start_time),
            "duration": span.end_time - span.start_time,
        }
        for number, span in enumerate(spans)
    ]


def send_logs(logger, count, in_root):
    for number in range(count):
        severity, text = SEVERITIES[number % 6]
        logger.emit(
            timestamp=time.time_ns(),
            context=in_root if number % 2 == 0 else context.Context(),
            severity_number=severity,
            severity_text=text,
            body={"text": "a", "n": 1, "list": [1, "b"]} if number == 2 else f"log {number}",
            attributes={"number": number},
            event_name="contract.happened" if number == 1 else None,
        )


def send_points(meter, count):
    requests = meter.create_counter("contract.requests", unit="{request}")
    for series in range(count):
        requests.add(series + 1, {"series": series})
    in_flight = meter.create_up_down_counter("contract.in_flight", unit="{request}")
    in_flight.add(5)
    in_flight.add(-7)
    meter.create_gauge("contract.temperature", unit="Cel").set(21.5)
    for name, unit, values in [("latency", "ms", [1.0, 10.0, 100.5]), ("size", "By", [1.0, 2.0, 4.0])]:
        histogram = meter.create_histogram(f"contract.{name}", unit=unit)
        for value in values:
            histogram.record(value)


def main(protocol, count):
    package = PACKAGES[protocol]
    exporter = lambda module, name: getattr(importlib.import_module(f"{package}.{module}"), name)()
    failures = Failures()
    logging.getLogger("opentelemetry").addHandler(failures)
    resource = Resource.create({"service.name": "sdk-python", "cloud.provider": "aws"})

    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(exporter("trace_exporter", "OTLPSpanExporter")))
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(exporter("_log_exporter", "OTLPLogExporter")))
    metrics = MeterProvider(
        [PeriodicExportingMetricReader(exporter("metric_exporter", "OTLPMetricExporter"))],
        resource,
        views=[View(instrument_name="contract.size", aggregation=ExponentialBucketHistogramAggregation())],
    )

    in_root, spans = send_spans(traces.get_tracer(*SCOPE), count)
    send_logs(logs.get_logger(*SCOPE), count, in_root)
    send_points(metrics.get_meter(*SCOPE), count)

    flushed = []
    flushes = [
        threading.Thread(target=lambda provider=provider: flushed.append(provider.force_flush(300_000)))
        for provider in (traces, logs, metrics)
    ]
    started = time.time()
    for flush in flushes:
        flush.start()
    for flush in flushes:
        flush.join()
    ended = time.time()
    if flushed != [True] * 3 and not failures.lines:
        failures.lines.append(f"the flushes answered {flushed}")

    print(
        json.dumps(
            {
                "sdk": f"opentelemetry-python {importlib.metadata.version('opentelemetry-sdk')}",
                "protocol": protocol,
                "traceId": format(trace.get_current_span(in_root).get_span_context().trace_id, "032x"),
                "spans": spans,
                "logs": count,
                "points": {
                    "contract.requests": count,
                    "contract.in_flight": 1,
                    "contract.temperature": 1,
                    "contract.latency": 1,
                    "contract.size": 1,
                },
                "has": ["long", "event name", "map body", "exponential histogram"],
                "flushStarted": round(started * 1000),
                "flushEnded": round(ended * 1000),
                "failures": failures.lines,
            }
        ),
        flush=True,
    )
    # An ordinary exit would let the SDK export the metrics a second time.
    os._exit(1 if failures.lines else 0)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in PACKAGES:
        sys.exit(f"usage: contract.py {'|'.join(PACKAGES)} <count>")
    main(sys.argv[1], int(sys.argv[2]))
