"""Measures how long an outage an SDK survives by its own defaults.

    target/sdk/python/venv/bin/python -m tests.sdk.outage <language> <protocol>

Runs the language's program of tests/sdk many times at once, each with a separate endpoint that accepts requests only after some
time, and prints one row of the table in docs/sdks.md. There are two kinds of outage: nothing listens, or the endpoint answers
503 (UNAVAILABLE) with the wait of 3 s that the service asks for while its journal is full. The SDK survives an outage if every
span, log record and metric point of the program arrives afterwards. As SDKs wait for random times, the row has two times: the
SDK survived every outage up to the first, and none from the second on. The endpoint counts items and stores nothing.
"""

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from concurrent import futures
from http.server import ThreadingHTTPServer

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.common.ports import free_port
from tests.common.servers import QuietHandler

COUNT = 10
ITEMS = COUNT + COUNT + COUNT + 4
WAIT_SECONDS = 3
COARSE = [0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 30, 45, 60, 90, 120]
FINE = 6
REQUESTS = {
    "traces": (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "logs": (ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    "metrics": (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
}
DATA = ["gauge", "sum", "histogram", "exponential_histogram", "summary"]


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def lists(message, name):
    """Returns the elements of a list, of a message or of JSON."""
    return message.get(camel(name), []) if isinstance(message, dict) else getattr(message, name)


def is_contract(scope):
    known = scope.get("scope", {}).get("name") if isinstance(scope, dict) else scope.scope.name
    return known == "contract"


def keys(signal, request):
    """Yields a key for each item of a request; a repeated request has the same keys."""
    _, resources, scopes, items = REQUESTS[signal]
    for resource in lists(request, resources):
        for scope in filter(is_contract, lists(resource, scopes)):
            for item in lists(scope, items):
                if signal != "metrics":
                    yield str(item)
                    continue
                for data in DATA:
                    content = item.get(camel(data)) if isinstance(item, dict) else getattr(item, data)
                    for point in lists(content, "data_points") if content else []:
                        name = item["name"] if isinstance(item, dict) else item.name
                        yield f"{name} {lists(point, 'attributes')}"


class Endpoint:
    """Accepts requests from the time `opens` on; before, it refuses them or does not listen."""

    def __init__(self, protocol, listens):
        self.protocol = protocol
        self.opens = float("inf")
        self.arrived = set()
        self.lock = threading.Lock()
        self.port = int(free_port())
        self.server = None
        if listens:
            self.listen()

    def open(self):
        self.opens = time.time()
        if self.server is None:
            self.listen()

    def accept(self, signal, body, parse):
        if time.time() < self.opens:
            return False
        found = set(f"{signal} {key}" for key in keys(signal, parse(body)))
        with self.lock:
            self.arrived |= found
        return True

    def listen(self):
        if self.protocol == "grpc":
            self.server = grpc.server(futures.ThreadPoolExecutor(4))
            self.server.add_generic_rpc_handlers([Calls(self)])
            self.server.add_insecure_port(f"127.0.0.1:{self.port}")
            self.server.start()
            return
        endpoint = self

        class Requests(QuietHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.body()
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                signal = self.path.rsplit("/", 1)[1]
                is_json = "json" in self.headers["content-type"]
                parse = json.loads if is_json else REQUESTS[signal][0].FromString
                accepted = endpoint.accept(signal, body, parse)
                answer = b"{}" if is_json else b""
                self.send_response(200 if accepted else 503)
                if not accepted:
                    self.send_header("retry-after", str(WAIT_SECONDS))
                self.send_header("content-type", self.headers["content-type"])
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def body(self):
                length = self.headers.get("content-length")
                if length is not None:
                    return self.rfile.read(int(length))
                pieces = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(pieces)

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Requests)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Calls(grpc.GenericRpcHandler):
    """Answers the three Export calls of gRPC."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def service(self, details):
        signal = {"TraceService": "traces", "LogsService": "logs", "MetricsService": "metrics"}[
            details.method.split("/")[1].rsplit(".", 1)[1]
        ]

        def export(body, context):
            if not self.endpoint.accept(signal, body, REQUESTS[signal][0].FromString):
                wait = RetryInfo()
                wait.retry_delay.FromSeconds(WAIT_SECONDS)
                context.set_trailing_metadata([("google.rpc.retryinfo-bin", wait.SerializeToString())] + status(wait))
                context.abort(grpc.StatusCode.UNAVAILABLE, "the journal is full")
            return b""

        return grpc.unary_unary_rpc_method_handler(export)


def status(wait):
    """Returns the same wait in the status's details, which most clients read."""
    from google.rpc.status_pb2 import Status

    details = Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="the journal is full")
    details.details.add().Pack(wait)
    return [("grpc-status-details-bin", details.SerializeToString())]


def run(language, protocol, kind, outage):
    """Returns the real length of the outage in seconds, true if all items arrived, the reported errors, and the SDK's name."""
    endpoint = Endpoint(protocol, listens=kind == "503")
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{endpoint.port}"}
    program = subprocess.Popen(
        [f"target/sdk/{language}/run", protocol, str(COUNT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    opening = threading.Timer(outage, endpoint.open)
    opens = time.time() + outage
    opening.start()
    output, errors = program.communicate()
    # A program that ends before the outage has lost its items; the outage need not be waited for.
    opening.cancel()
    opening.join()
    report = json.loads(output.strip().splitlines()[-1])
    lasted = min(endpoint.opens, opens) - report["flushStarted"] / 1000
    errors_reported = report["failures"] or errors.strip().splitlines()[-1:]
    return lasted, len(endpoint.arrived) == ITEMS, errors_reported, report["sdk"]


def measure(language, protocol, kind, outages):
    """Runs all outages at the same time; two programs start in a second."""
    with futures.ThreadPoolExecutor(len(outages)) as pool:
        runs = []
        for outage in outages:
            runs.append(pool.submit(run, language, protocol, kind, outage))
            time.sleep(0.5)
        return [started.result() for started in runs]


def survival(language, protocol, kind):
    runs = measure(language, protocol, kind, COARSE)
    # A program takes a moment to start, which shortens its outage by the same time.
    start_up = min(outage - run[0] for outage, run in zip(COARSE, runs))
    lost = min((run[0] for run in runs if not run[1]), default=None)
    if lost is not None:
        kept = max((run[0] for run in runs if run[1] and run[0] < lost), default=0)
        step = (lost - kept) / (FINE + 1)
        runs += measure(language, protocol, kind, [max(kept, 0) + start_up + step * n for n in range(1, FINE + 1)])
    survived = [run[0] for run in runs if run[1]]
    lost = sorted((run for run in runs if not run[1]), key=lambda run: run[0])
    if not lost:
        return f"over {int(max(survived))} s", [], runs[0][3]
    always = max((lasted for lasted in survived if lasted < lost[0][0]), default=0)
    never = next((run[0] for run in lost if run[0] > max(survived, default=0)), None)
    shown = f"{max(always, 0):.1f} s / {f'{never:.1f} s' if never else '–'}"
    return shown, lost[0][2], runs[0][3]


def main(language, protocol):
    refused, unavailable = (survival(language, protocol, kind) for kind in ("refused", "503"))
    error = " ".join(str(line) for line in (unavailable[1] or refused[1])[:1])
    error = " ".join(error.replace("|", "/").replace("`", "'").split())[:120]
    print(f"| {refused[2]} | {protocol} | {refused[0]} | {unavailable[0]} | {f'`{error}`' if error else 'nothing'} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: outage.py <language> <protocol>")
    main(sys.argv[1], sys.argv[2])
