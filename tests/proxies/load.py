"""Sends spans through a proxy, one in each request, over HTTP and gRPC, until a file exists; records the acknowledged spans.

    target/sdk/python/venv/bin/python -m tests.proxies.load https://localhost:8443 ca.pem TOKEN enough acknowledged.txt

Each protocol has threads with one connection each. A failed request is counted by its error and sent again a moment later with
the same span id, as SDKs do. `acknowledged.txt` receives a line for each span: protocol, span id.

Invariant: a span id is recorded only after the answer to its own request reports success.
"""

import collections
import json
import os
import secrets
import sys
import threading
import time
import urllib.parse

import grpc
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

THREADS = 4
TRIES = 50


def request_of(span_id):
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="proxied")))
    span = resource.scope_spans.add().spans.add()
    now = time.time_ns()
    span.trace_id, span.span_id, span.name = secrets.token_bytes(16), span_id, "through"
    span.start_time_unix_nano = span.end_time_unix_nano = now
    return request


def over_http(url, ca, token):
    session = requests.Session()
    session.verify = ca
    session.trust_env = False

    def send(request):
        headers = {"Content-Type": "application/x-protobuf", "Authorization": f"Bearer {token}"}
        try:
            answer = session.post(f"{url}/v1/traces", request.SerializeToString(), headers=headers, timeout=20)
        except requests.exceptions.RequestException as error:
            return type(error).__name__
        return None if answer.status_code == 200 else f"HTTP {answer.status_code}"

    return send


def over_grpc(url, ca, token):
    with open(ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    # Without a separate pool of subchannels, all threads would share one connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.secure_channel(urllib.parse.urlsplit(url).netloc, credentials, options)
    stub = TraceServiceStub(channel)

    def send(request):
        try:
            stub.Export(request, timeout=20, metadata=[("authorization", f"Bearer {token}")])
        except grpc.RpcError as error:
            return f"gRPC {error.code().name}: {error.details()}"
        return None

    return send


def main(url, ca, token, enough, path):
    failures = collections.Counter()
    acknowledged = []
    abandoned = []
    slowest = collections.Counter()

    def run(protocol, send):
        while not os.path.exists(enough):
            span_id = secrets.token_bytes(8)
            request = request_of(span_id)
            start = time.monotonic()
            for _ in range(TRIES):
                failure = send(request)
                if failure is None:
                    acknowledged.append((protocol, span_id.hex()))
                    break
                failures[f"{protocol}: {failure}"] += 1
                time.sleep(0.1)
            else:
                abandoned.append((protocol, span_id.hex()))
            slowest[protocol] = max(slowest[protocol], time.monotonic() - start)

    threads = [
        threading.Thread(target=run, args=(protocol, make(url, ca, token)))
        for protocol, make in [("http", over_http), ("grpc", over_grpc)]
        for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"{protocol} {span_id}\n" for protocol, span_id in acknowledged)
    print(
        json.dumps(
            {
                "acknowledged": collections.Counter(protocol for protocol, _ in acknowledged),
                "failures": failures,
                "abandoned": len(abandoned),
                "slowest_seconds": {protocol: round(seconds, 3) for protocol, seconds in slowest.items()},
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:6])
