"""An application that traces one order with the OpenTelemetry SDK, all at its defaults but the endpoint.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 python spans.py

Prints one JSON object that says what was sent; fails when an export did.
"""

import json
import logging
import sys

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode


class Failures(logging.Handler):
    """The exporter tells of failures in log lines alone."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


failures = Failures()
logging.getLogger("opentelemetry").addHandler(failures)

provider = TracerProvider(resource=Resource.create({"service.name": "checkout", "cloud.provider": "aws"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop", "1.2.3")

with tracer.start_as_current_span("POST /orders", kind=SpanKind.SERVER) as root:
    root.set_attribute("http.response.status_code", 500)
    root.set_attribute("customer", "Grüße \U0001F980")
    root.set_attribute("prices", [1.5, 2.0])
    root.add_event("order received", {"items": 3})
    with tracer.start_as_current_span(
        "INSERT orders",
        kind=SpanKind.CLIENT,
        attributes={"db.system.name": "postgresql", "correlation.id": "order-4711"},
        links=[Link(root.get_span_context(), {"why": "test"})],
    ) as child:
        child.set_status(Status(StatusCode.ERROR, "deadlock detected"))
        child_id = child.get_span_context().span_id

for number in range(1000):
    with tracer.start_as_current_span(f"item {number % 10}"):
        pass

flushed = provider.force_flush(30_000)
provider.shutdown()

context = root.get_span_context()
print(
    json.dumps(
        {
            "traceId": format(context.trace_id, "032x"),
            "rootId": format(context.span_id, "016x"),
            "childId": format(child_id, "016x"),
            "rootStart": str(root.start_time),
            "rootDuration": root.end_time - root.start_time,
            "spans": 1002,
            "failures": failures.lines,
        }
    )
)
sys.exit(0 if flushed and not failures.lines else 1)
