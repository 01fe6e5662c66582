"""Sends events of every kind over every protocol, valid and invalid, so that every metric of the service has a value.

Invariant: the trace `TRACE` is complete: a root span, children of which one failed, logs, and a native event.
"""

import json
import subprocess
import time

from tests.common.servers import ask

TRACE = "5b8efff798038103d269b633813fc60c"
# A gRPC frame around an empty request.
EMPTY_FRAME = b"\0\0\0\0\0"
COLLECTOR = "opentelemetry.proto.collector"


def resource(name, items, signal):
    attributes = [{"key": "service.name", "value": {"stringValue": name}}]
    return {f"resource{signal}": [{"resource": {"attributes": attributes}, f"scope{signal}": [items]}]}


def span(number, parent, milliseconds, code, trace=TRACE):
    start = time.time_ns()
    return {
        "traceId": trace,
        "spanId": f"{number:016x}",
        **({"parentSpanId": f"{parent:016x}"} if parent else {}),
        "name": f"step {number}",
        "kind": 2,
        "attributes": [{"key": "http.route", "value": {"stringValue": "/cart"}}],
        "startTimeUnixNano": str(start + number * 1_000_000),
        "endTimeUnixNano": str(start + (number + milliseconds) * 1_000_000),
        "status": {"code": code, "message": "the card was refused" if code == 2 else ""},
    }


def log(number):
    body = {"stringValue": f"card {number} was refused"}
    common = {"timeUnixNano": str(time.time_ns()), "traceId": TRACE, "spanId": f"{2:016x}", "body": body}
    return {**common, "severityNumber": 17, "severityText": "ERROR", "eventName": "card.refused"}


def point():
    values = [{"timeUnixNano": str(time.time_ns()), "asDouble": 1.5}]
    return {"name": "cart.size", "gauge": {"dataPoints": values}}


def trace(main):
    """Sends the trace `TRACE` and returns once it is stored."""
    spans = [span(1, None, 90, 1), span(2, 1, 40, 2), span(3, 1, 20, 0), span(4, 2, 10, 0)]
    # The service accepts this end, which does not fit a BIGINT of nanoseconds.
    endless = {**span(5, 1, 1, 0), "endTimeUnixNano": str(time.time_ns() + 9 * 10**18)}
    send(f"{main}/v1/traces", resource("shop", {"spans": [*spans, endless]}, "Spans"), 200)
    send(f"{main}/v1/logs", resource("shop", {"logRecords": [log(1), log(2)]}, "Logs"), 200)
    event = {
        "correlationId": TRACE,
        "traceId": TRACE,
        "integration": "billing",
        "eventType": "card.refused",
        "metadata": {"card": 1},
    }
    send(f"{main}/ingest?wait=stored", event, 200)


def round_of(listeners, number):
    """Sends one request of each kind; `number`, not 0, makes the round different from others."""
    main, otlp = listeners["main"], listeners["otlp_http"]
    send(f"{otlp}/v1/traces", resource("shop", {"spans": [span(1, None, 5, 0, f"{number:032x}")]}, "Spans"), 200)
    send(f"{otlp}/v1/logs", resource("shop", {"logRecords": [log(number)]}, "Logs"), 200)
    send(f"{otlp}/v1/metrics", resource("shop", {"metrics": [point()]}, "Metrics"), 200)
    send(f"{main}/ingest", [{"correlationId": "order-1", "integration": "billing", "eventType": "order.paid"}] * 3, 200)
    send(f"{main}/ingest", {"integration": 1}, 400)
    for signal in ["trace.v1.Trace", "logs.v1.Logs", "metrics.v1.Metrics"]:
        grpc(listeners["otlp_grpc"], f"{COLLECTOR}.{signal}Service/Export")
    for path in ["/query?integration=billing", f"/traces/{TRACE}", "/health"]:
        status, text = ask(main + path)
        assert status == 200, f"{path}: {status} {text}"


def send(url, value, expected):
    status, text = ask(url, json.dumps(value).encode())
    assert status == expected, f"{url}: {status}, not {expected}: {text}"


def grpc(address, method):
    connection = ["--silent", "--show-error", "--fail", "--http2-prior-knowledge", "--noproxy", "*", "--max-time", "20"]
    request = ["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "@-", f"{address}/{method}"]
    subprocess.run(["curl", *connection, *request], input=EMPTY_FRAME, check=True, stdout=subprocess.DEVNULL)
