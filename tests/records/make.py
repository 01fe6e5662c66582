"""Writes the journal and the rows that a build of the service makes of odd requests, as fixtures for later builds.

    python3 -m tests.records.make BINARY DIRECTORY

DIRECTORY must not exist. Its `data/` becomes a data directory with every request below in its journal, and `rows.jsonl` the
resources and rows that the same binary stored from a copy of it. Run it with the build of a release, before a later build
changes how bytes become rows; never run it again for the same version. Needs Python's standard library only.
"""

import gzip
import json
import pathlib
import re
import shutil
import sqlite3
import struct
import sys
import tempfile
import time
import zlib

from tests.common.programs import until
from tests.common.servers import ask, process

NOW = time.time_ns()
TRACE, SPAN = bytes(range(1, 17)), bytes(range(1, 9))
PROTOBUF, JSON, NDJSON = "application/x-protobuf", "application/json", "application/x-ndjson"


# Protobuf's wire format.


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def fixed64(field, value):
    return varint(field << 3 | 1) + struct.pack("<Q", value)


def double(field, value):
    return varint(field << 3 | 1) + struct.pack("<d", value)


def fixed32(field, value):
    return varint(field << 3 | 5) + struct.pack("<I", value)


def message(field, *parts):
    content = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return varint(field << 3 | 2) + varint(len(content)) + content


# OTLP.


def text(value):
    return message(1, value)


def array(*values):
    return message(5, *(message(1, value) for value in values))


def pairs(*members):
    return message(6, *(message(1, member) for member in members))


def pair(key, *values):
    """A KeyValue; several values are one value in pieces."""
    return message(1, key) + b"".join(message(2, value) for value in values)


def resource(*attributes):
    return message(1, *(message(1, attribute) for attribute in attributes))


CASE = resource(pair("service.name", text("case")), pair("cloud.provider", text("aws")))
SCOPE = message(1, message(1, "library"), message(2, "1.2"))


def request(*items, around=CASE, scope=SCOPE):
    return message(1, around, message(2, scope, *(message(2, item) for item in items)))


def span(*more, start=NOW, end=NOW + 5, name="GET /"):
    times = fixed64(7, start) + fixed64(8, end)
    return message(1, TRACE) + message(2, SPAN) + message(5, name) + times + b"".join(more)


def log(*more, body="line"):
    return fixed64(1, NOW) + message(5, text(body)) + b"".join(more)


def nested(levels):
    value = text("deep")
    for _ in range(levels - 1):
        value = array(value)
    return value


def protobuf_spans():
    attribute = lambda *parts: message(9, pair(*parts))
    values = [
        attribute("text", text("a\u00e9\n\x01")),
        attribute("yes", number(2, 1)),
        attribute("int", number(3, 2**64 - 7)),
        attribute("double", double(4, 1e300)),
        attribute("nan", double(4, float("nan"))),
        attribute("array", array(text("a"), number(3, 1), b"")),
        attribute("pairs", pairs(pair("k", text("v")), pair("$x", text("y")), pair("k", text("last")))),
        attribute("bytes", message(7, b"\x00\xff")),
        attribute("empty", b""),
        attribute("text", text("the last wins")),
        attribute("db.system", text("postgresql")),
        attribute("reference", number(8, 3)),
    ]
    event = message(11, fixed64(1, NOW), message(2, "event"), message(3, pair("e", text("v"))), number(4, 2))
    link = message(13, message(1, TRACE), message(2, SPAN), message(3, "a=b"), message(4, pair("l", b"")), fixed32(6, 257))
    status = message(15, message(2, "failed"), number(3, 2))
    whole = span(
        message(3, "state=1"), message(4, SPAN[::-1]), number(6, 3), *values, number(10, 1), event, number(12, 2), link,
        number(14, 3), status, fixed32(16, 0x301), number(99, 1), message(1234, "unknown"),
    )
    yield request(whole)
    yield request(whole, message(1, b"short") + message(2, SPAN), span(name=""), message(1, TRACE) + message(2, b"\0" * 8))
    yield request(span(attribute("v", nested(24))), span(attribute("v", nested(25)), name="too deep"), span(name="after"))
    wide = message(5, b"\x0a\x00" * 100_001)
    yield request(span(name="before"), span(attribute("v", wide), name="too many nodes"), span(name="after"))
    yield request(
        span(name="n" * 256),
        span(name="\u00e9" * 255),
        span(attribute("correlation_id", text("c" * 300))),
        span(attribute("correlation.id", number(3, 42)), attribute("provider", text("p" * 101))),
    )
    long = resource(pair("service.name", text("s" * 150)), pair("cloud.provider", text("c" * 150)))
    yield request(span(), span(attribute("provider", text("own"))), around=long)
    yield request(
        span(name="nul\0"), span(name=b"bad \xff\xe2\x82 text"), span(attribute(b"k\xff", text(b"\xf0\x9f\x98"))),
        around=resource(pair("service.name", text(b"bad\xff")), pair("n", text("\0"))),
    )
    yield request(*(
        span(start=start, end=end)
        for start, end in [
            (0, 0), (NOW, 0), (NOW, NOW - 1), (NOW, 2**64 - 1), (2**64 - 1, 2**64 - 1), (2**63, 2**63 + 5), (7, NOW),
            (NOW // 10**9, NOW // 10**9 + 1), (NOW // 10**6, NOW // 10**6 + 1), (NOW // 1000, NOW // 1000 + 1),
            (NOW + 23 * 3600 * 10**9, NOW + 24 * 3600 * 10**9), (NOW + 48 * 3600 * 10**9, 2**63),
        ]
    ))
    # Messages in pieces.
    name, version = resource(pair("service.name", text("pieces"))), resource(pair("service.version", text("2")))
    yield request(span(name="resource in pieces"), around=name + version + message(3, "https://schema/1"))
    yield request(span(name="scope in pieces"), scope=SCOPE + message(1, message(3, pair("s", text("t")))) + message(3, "url"))
    yield request(
        span(
            attribute("lists", array(text("a")), array(text("b"), text("c"))),
            attribute("a list, a text, a list", array(text("a")), text("x"), array(text("b"))),
            attribute("members", pairs(pair("k", text("a"))) + pairs(pair("l", array(text("b")), array(text("c"))))),
            attribute("text last", array(text("a")), text("x")),
            attribute("correlation_id", text("first"), b""),
            attribute("provider", text("first"), text("second")),
            message(15, message(2, "failed")), message(15, number(3, 2)),
            message(11, message(2, "event"), message(3, pair("v", array(text("a")), array(text("b"))))),
        ),
    )
    yield request(span(name="whole")) + message(1, CASE, message(1000, SCOPE, message(2, span(name="old name"))))
    beside = message(2, SCOPE, message(2, span(name="new name"))), message(1000, SCOPE, message(2, span(name="beside it")))
    yield message(1, CASE, *beside)


def protobuf_logs():
    attribute = lambda *parts: message(6, pair(*parts))
    yield request(
        log(number(2, 9), message(3, "INFO"), attribute("k", text("v")), fixed32(8, 1), message(9, TRACE), message(10, SPAN)),
        log(message(12, "event.name"), fixed64(11, NOW + 1), number(7, 4)),
        message(5, b""), b"", fixed64(11, NOW), message(5, text("")), log(number(2, 99), message(9, b"short")),
    )
    yield request(log(body="nul\0 and \x1b"), log(body=b"\xed\xa0\xbd bad"), log(message(12, "e" * 300)), log(attribute("correlationId", text("c" * 300))))
    yield request(
        fixed64(1, NOW) + message(5, array(text("a"))) + message(5, array(text("b"))),
        fixed64(1, NOW) + message(5, text("first")) + message(5, b""),
        log(attribute("k", pairs(pair("a", text("1"))), pairs(pair("b", text("2"))))),
    )
    yield request(*(fixed64(1, time) + fixed64(11, seen) for time, seen in [
        (NOW // 10**9, 0), (NOW // 10**6, NOW), (0, NOW // 1000), (2**64 - 1, 0), (3, 0),
    ]))
    yield request(log(attribute("v", nested(30))), log(body="after"))


def protobuf_metrics():
    attribute = pair("host", text("a"))
    exemplar = fixed64(2, NOW) + double(3, 0.5) + message(4, SPAN) + message(5, TRACE) + message(7, pair("f", array(text("a")), array(text("b"))))
    point = lambda *more, time=NOW: fixed64(2, NOW - 5) + fixed64(3, time) + b"".join(more)
    named = lambda name, *more: message(1, name) + message(2, "about it") + message(3, "By") + b"".join(more)
    gauge = lambda *points: message(5, *(message(1, each) for each in points))
    sums = lambda *points: message(7, *(message(1, each) for each in points), number(2, 2), number(3, 1))
    yield request(
        named("gauge", gauge(point(double(4, 1.5), message(7, attribute), message(5, exemplar)), point(fixed64(6, 2**64 - 3)), point())),
        named("sum", sums(point(fixed64(6, 7), number(8, 1)))),
        named("histogram", message(9, message(1, point(
            fixed64(4, 3), double(5, 6.5), message(6, struct.pack("<2Q", 1, 2)), double(7, 1.0), double(7, 2.0),
            double(11, 0.0), double(12, 9.0), message(9, attribute), message(8, exemplar),
        )), number(2, 1))),
        named("exponential", message(10, message(1, point(
            message(1, attribute), fixed64(4, 5), double(5, 1e30), number(6, 3), fixed64(7, 1), message(8, number(1, 4), message(2, b"\x01\x02")),
            message(8, number(2, 3)), message(9, b""), double(14, 1e-9),
        )), number(2, 2))),
        named("summary", message(11, message(1, point(fixed64(4, 2), double(5, 3.0), message(6, double(1, 0.5), double(2, 7.0)), message(7, attribute))))),
    )
    yield request(
        named("no time", gauge(point(time=0), point(double(4, 1.0)))),
        named("m" * 300, message(12, pair("meta", text("a"), text("b"))), gauge(point(double(4, 2.0)))),
        named("several kinds", gauge(point(double(4, 1.0))), sums(point(double(4, 2.0))), sums(point(double(4, 3.0)))),
        named("no data"),
        message(1, b"bad \xff name\0") + gauge(point(double(4, 1.0))),
        named("wrong units", gauge(*(point(double(4, 1.0), time=each) for each in [NOW // 10**9, NOW // 10**6, NOW // 1000, 9]))),
    )
    pieces = message(7, message(1, "host"), message(2, array(text("a"))), message(2, array(text("b"))))
    yield request(named("pieces", gauge(point(double(4, 1.0), pieces))), around=CASE + resource(pair("more", text("x"))))
    yield message(1, CASE, message(2, SCOPE, message(2, named("new", gauge(point()))))) + message(1, CASE, message(1000, SCOPE, message(2, named("old", gauge(point())))))


def around(signal, *items, resource=None, scope=None):
    resources, scopes, name = {
        "traces": ("resourceSpans", "scopeSpans", "spans"),
        "logs": ("resourceLogs", "scopeLogs", "logRecords"),
        "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    }[signal]
    attributes = [{"key": "service.name", "value": {"stringValue": "case"}}]
    resource = resource or {"attributes": attributes}
    scope = scope or {"name": "library", "unknown": [1, {"x": None}]}
    return {resources: [{"resource": resource, scopes: [{"scope": scope, name: list(items), "new": 1}], "other": {}}], "more": True}


def written(value):
    """Writes JSON: `@x` of a text becomes the escape `\\ux`, and a key's `#` are removed, so that a key may repeat."""
    return re.sub(r"@([0-9a-f]{4})", r"\\u\1", json.dumps(value, ensure_ascii=False)).replace("#", "")


def json_spans():
    span = {"traceId": TRACE.hex().upper(), "spanId": SPAN.hex(), "name": "GET /", "startTimeUnixNano": str(NOW), "endTimeUnixNano": NOW + 9}
    values = {
        "text": {"stringValue": "cut @d83d, \U0001f600 and nul @0000"},
        "name@dc00": {"boolValue": False},
        "int": {"intValue": "-7"}, "whole": {"intValue": 42.0}, "large": {"intValue": 1e21}, "beyond": {"intValue": "9223372036854775808"},
        "double": {"doubleValue": "NaN"}, "plain": {"doubleValue": 5e-324}, "as text": {"doubleValue": "2.5"},
        "array": {"arrayValue": {}}, "mixed": {"arrayValue": {"values": [{"intValue": 1}, {}, None, {"stringValue": "x"}]}},
        "pairs": {"kvlistValue": {"values": [{"key": "$a", "value": {"bytesValue": "AP-_"}}]}},
        "none": None, "unknown": {"newValue": 7}, "empty": {},
        "twice": {"stringValue": "a", "stringValue#": "b"},
        "lists": {"arrayValue": {"values": [{"intValue": 1}]}, "arrayValue#": {"values": [{"intValue": 2}]}},
    }
    full = span | {
        "parentSpanId": "", "traceState": None, "kind": "SPAN_KIND_CLIENT", "flags": "257",
        "attributes": [{"key": key, "value": value, "extra": 1} for key, value in values.items()],
        "events": [{"timeUnixNano": NOW, "name": "e", "attributes": []}, None],
        "links": [{"traceId": "zz", "spanId": SPAN.hex(), "droppedAttributesCount": 1}],
        "status": {"code": "STATUS_CODE_ERROR", "message": "m"}, "status#": {"code": 1}, "someday": [[["x"]]],
    }
    snake = {"trace_id": TRACE.hex(), "span_id": SPAN.hex(), "start_time_unix_nano": NOW, "name": "snake", "dropped_links_count": 3}
    yield around("traces", full, snake, span | {"traceId": "x"}, span | {"kind": 77, "status": {}})
    yield around("traces", snake | {"startTimeUnixNano": str(NOW + 1)}, span | {"name": "n" * 300}, span | {"endTimeUnixNano": str(2**64 - 1)})
    yield around("traces", *(span | {"startTimeUnixNano": str(time)} for time in [0, NOW // 10**9, NOW // 10**6, NOW // 1000, 2**64 - 1]))
    old = {"instrumentationLibrarySpans": [{"instrumentationLibrary": {"name": "old"}, "spans": [span]}]}
    whole = around("traces", span, resource={"attributes": [{"key": "service.name", "value": {"stringValue": "half @d83d"}}], "newer": 1})
    whole["resourceSpans"].append(old)
    yield whole


def json_logs():
    body = {"timeUnixNano": str(NOW), "body": {"stringValue": "line"}}
    odd = [
        {"severityNumber": "SEVERITY_NUMBER_WARN", "severityText": "W"}, {"severityNumber": 17}, {"severityNumber": "9"}, {"observedTimeUnixNano": NOW},
        {"body": {"stringValue": "cut @d83d"}}, {"body": {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": 1}}]}}},
        {"body": None}, {"body": {}}, {"body": {"arrayValue": {}}}, {"traceId": "", "spanId": "00"}, {"traceId": TRACE.hex(), "spanId": SPAN.hex()},
        {"eventName": "e" * 256}, {"attributes": [{"key": "correlation_id", "value": {"stringValue": "c" * 256}}]}, {"observed_time_unix_nano": "5"},
        {"body": {"arrayValue": {"values": [{"intValue": 1}]}}, "body#": {"arrayValue": {"values": [{"intValue": 2}]}}},
        {"timeUnixNano": NOW // 1000}, {"timeUnixNano": None}, {"flags": 4294967295, "unknown": {"deep": [[[]]]}},
    ]
    yield around("logs", *(body | more for more in odd), None)
    yield {"resource_logs": [{"scope_logs": [{"log_records": [body]}]}, None]}
    mixed = around("logs", body)
    mixed["resourceLogs"].append({"instrumentationLibraryLogs": [{"logRecords": [body]}]})
    yield mixed


def json_metrics():
    point = {"timeUnixNano": str(NOW), "startTimeUnixNano": NOW - 9, "attributes": [{"key": "k", "value": {"stringValue": "half @dfff"}}]}
    exemplar = {"timeUnixNano": NOW, "asInt": "3", "traceId": TRACE.hex(), "spanId": "", "filteredAttributes": [{"key": "f"}]}
    yield around(
        "metrics",
        {"name": "gauge", "unit": "By", "gauge": {"dataPoints": [point | {"asDouble": 1}, point | {"asInt": 1.5}, {"asInt": 1}], "new": 1}},
        {"name": "sum", "sum": {"isMonotonic": True, "aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA", "dataPoints": [point | {"asInt": "7", "exemplars": [exemplar], "flags": 1}]}},
        {"name": "histogram", "histogram": {"aggregationTemporality": 2, "dataPoints": [point | {"count": "3", "sum": 1.5, "bucketCounts": ["1", 2], "explicitBounds": [1, "Infinity"], "min": 0}]}},
        {"name": "exponential", "exponentialHistogram": {"dataPoints": [point | {"count": 2, "scale": -1, "zeroCount": 1, "positive": {"offset": -3, "bucketCounts": [1, "18446744073709551615"]}, "negative": {}}]}},
        {"name": "summary", "summary": {"dataPoints": [point | {"count": 1, "quantileValues": [{"quantile": 0.99, "value": 3}, {}]}]}},
        {"name": "two", "gauge": {"dataPoints": [point]}, "sum": {"dataPoints": [point, point]}},
        {"name": "m" * 256, "metadata": [{"key": "x", "value": {"intValue": 1}}], "gauge": {"data_points": [point | {"as_int": 4}]}, "odd": 1},
        {"name": "none"}, None,
        {"name": "wrong units", "gauge": {"dataPoints": [point | {"timeUnixNano": time} for time in [NOW // 10**9, NOW // 10**6, NOW // 1000]]}},
    )
    mixed = around("metrics", {"name": "new", "gauge": {"dataPoints": [point]}})
    mixed["resourceMetrics"].append({"instrumentationLibraryMetrics": [{"metrics": [{"name": "old", "gauge": {"dataPoints": [point]}}]}]})
    yield mixed


def native():
    """Yields bodies, each with true if the valid events of its batch are accepted without the others."""
    plain = {"correlationId": "order-1", "integration": "shop", "eventType": "order.paid"}
    deep = {"x": 1}
    for _ in range(50):
        deep = {"deep": deep}
    whole = plain | {
        "timestamp": NOW // 10**6, "provider": None, "traceId": TRACE.hex().upper(), "spanId": "Span-1",
        "metadata": {"b": [1, 1.50, True, None], "a": {"k": "v", "k#": "last"}, "nul @0000": "@0000", "": "", "$x": "@d83d@de00"},
    }
    yield whole, False
    yield [whole, plain, plain | {"timestamp": "2026-01-31T23:59:59.1239+01:00", "metadata": None}, plain | {"correlationId": "n@0000l"}], False
    # Members that no event has.
    yield plain | {"metaData": {"a": 1}, "traceid": "x", "level": "info", "metadata": {"level": "kept"}}, False
    yield plain | {"too deep": deep, "half": "@d83d", "key @d83d": 1, "nul@0000": "@0000", "wide": [0] * 200}, False
    yield [plain | {"unknown": 7}, plain | {"metadata": {"a": 1}, "unknown": [deep], "unknown#": 8}], False
    yield [plain, {"integration": "x"}, 7, plain | {"timestamp": 1}, plain | {"eventType": "e" * 51, "other": 1}, whole], True


def huge_numbers():
    return b'{"correlationId":"order-2","integration":"shop","eventType":"e","long":1e999,"metadata":{"n":[1e2,-0,12345678901234567890.10,1e300]}}'


# Content encodings. A zstd frame of raw blocks needs no compressor (RFC 8878, 3.1.1).


def zstd(body):
    frame = struct.pack("<IBI", 0xFD2FB528, 0xA0, len(body))
    pieces = [body[at : at + (1 << 17)] for at in range(0, len(body), 1 << 17)] or [b""]
    for index, piece in enumerate(pieces):
        header = len(piece) << 3 | (index + 1 == len(pieces))
        frame += header.to_bytes(3, "little") + piece
    return frame


def raw_deflate(body):
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(body) + encoder.flush()


ENCODINGS = [("identity", bytes), ("gzip", lambda body: gzip.compress(body, mtime=0)), ("zstd", zstd), ("deflate", zlib.compress), ("deflate", raw_deflate)]


def service(binary, directory, data, **settings):
    """Runs the service on this data directory; small segments make the journal begin several files."""
    small = {"RUVVECTOR_JOURNAL_SEGMENT_BYTES": "64KiB", "RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES": "0"}
    return process(binary, directory, RUVVECTOR_DATA_DIR=str(data), RUVVECTOR_DUPLICATE_WINDOW="off", **small, **settings)


def send_all(main):
    """Sends every request, each in the next content encoding."""
    turn = 0
    sent = [(f"/v1/{signal}", PROTOBUF, body) for signal, make in [("traces", protobuf_spans), ("logs", protobuf_logs), ("metrics", protobuf_metrics)] for body in make()]
    sent += [(f"/v1/{signal}", JSON, written(body).encode()) for signal, make in [("traces", json_spans), ("logs", json_logs), ("metrics", json_metrics)] for body in make()]
    sent.append(("/ingest", JSON, huge_numbers()))
    for body, partial in native():
        path = "/ingest?partial=true" if partial else "/ingest"
        sent.append((path, JSON, written(body).encode()))
        events = body if isinstance(body, list) else [body]
        lines = [written(event) for event in events] + (["{broken", ""] if partial else [""])
        sent.append((path, NDJSON, "\n".join(lines).encode()))
    for path, content_type, body in sent:
        encoding, compress = ENCODINGS[1 if len(body) > 20_000 else turn % len(ENCODINGS)]
        turn += 1
        headers = {"content-type": content_type, "content-encoding": encoding}
        status, answer = ask(main + path, compress(body), headers)
        assert status == 200, f"{path} answers {status}: {answer}\n{body[:2000]}"


def rows(file):
    """The resources by id, then the rows in the order of the journal, as JSON lines."""
    database = sqlite3.connect(file)
    database.row_factory = sqlite3.Row
    letters = database.execute("SELECT reason, message FROM telemetry_dead_letters").fetchall()
    assert not letters, [tuple(letter) for letter in letters]
    for statement in ["SELECT hex(id) AS id, resource, scope FROM telemetry_resources ORDER BY id", """
        SELECT timestamp, time_unix_nano, duration_ns, kind, flags, correlation_id, integration, provider, event_type, trace_id,
               span_id, parent_span_id, name, status, hex(resource_id) AS resource_id, metadata
        FROM telemetry_events ORDER BY id"""]:
        for row in database.execute(statement):
            yield json.dumps({key: row[key] for key in row.keys() if row[key] not in (None, "")}, ensure_ascii=False)


def main():
    binary, directory = sys.argv[1], pathlib.Path(sys.argv[2]).absolute()
    directory.mkdir(parents=True)
    data = directory / "data"
    nowhere = {"RUVVECTOR_STORE": "postgres", "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing", "RUVVECTOR_SHUTDOWN_GRACE": "0s"}
    limits = {"RUVVECTOR_MAX_ATTRIBUTES": "3", "RUVVECTOR_MAX_VALUE_BYTES": "5"}
    with tempfile.TemporaryDirectory() as scratch:
        for settings in [{}, limits]:
            with service(binary, scratch, data, **nowhere, **settings) as (_, listeners):
                send_all(listeners["main"])
        copy = pathlib.Path(scratch, "data")
        shutil.copytree(data, copy)

        def stored():
            return True if "ruvvector_queue_events 0\n" in ask(f"{listeners['main']}/metrics")[1] else None

        with service(binary, scratch, copy, RUVVECTOR_STORE="sqlite", RUVVECTOR_RETENTION_DAYS="off") as (_, listeners):
            until("every event is stored", stored)
        lines = list(rows(copy / "telemetry.db"))
    (directory / "rows.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} lines")


main()
