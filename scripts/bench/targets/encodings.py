"""Other encodings and protocols into the synced journal: `native-json`, `gzip`, `otlp-json`, `grpc`.

Invariant: the figures of protobuf over HTTP, with which three of them are compared, are measured in the same round.
"""

import statistics

from scripts.bench.result import Line, compare, is_met, spread
from scripts.bench.target import Target
from scripts.bench.targets.receiving import into_journal

SECONDS = 3


def measure(bench, target, measurements):
    """Measures each build in each round; returns for each build a list of figures for each of the named measurements."""
    found = {build.name: {name: [] for name in measurements} for build in bench.builds}
    for _ in bench.rounds(5):
        for build in bench.builds:
            for name, attempt in measurements.items():
                figures = attempt(build)
                bench.keep(target, build.label(name), figures)
                found[build.name][name].append(figures.get("cpu_us_per_span") or figures["cpu_us_per_item"])
    return [(build, found[build.name]) for build in bench.builds]


def journal(bench, **named):
    """A measurement of requests into the journal."""
    return lambda build: into_journal(bench, build, bench.seconds(SECONDS), **named)


def parser(bench, **named):
    """A measurement of a parser alone."""
    return lambda build: bench.generate("parse", seconds=1, **named)


def native_json(bench):
    """The speed of either side is the number of events for each second of CPU, since the parser has one thread and no clients."""
    named = {"body": "native", "spans": 100}
    sides = {"service": journal(bench, url="main", **named), "serde": parser(bench, **named)}
    for build, cpu in measure(bench, "native-json", sides):
        speed, floor = ([1e6 / each for each in cpu[name]] for name in sides)
        what = build.label("events a second of CPU")
        bench.add(compare("native-json", what, speed, floor, ">= 0.7", "/s", "serde into a struct with raw metadata:"))


def gzip(bench):
    sides = {"gzip": journal(bench, body="gzip"), "inflate": parser(bench, body="gzip", spans=500), "plain": journal(bench)}
    for build, cpu in measure(bench, "gzip", sides):
        promise = "<= 1.2"
        rest = [whole - inflate for whole, inflate in zip(cpu["gzip"], cpu["inflate"], strict=True)]
        ratios = [our / plain for our, plain in zip(rest, cpu["plain"], strict=True)]
        bench.add(
            Line(
                "gzip",
                build.label("CPU a span without inflate"),
                f"{spread(rest, ' µs')} of {spread(cpu['gzip'], ' µs')}",
                f"inflate {spread(cpu['inflate'], ' µs')}, not compressed {spread(cpu['plain'], ' µs')}",
                spread(ratios),
                f"{promise}x not compressed",
                is_met(statistics.median(ratios), promise),
            )
        )


def otlp_json(bench):
    sides = {"JSON": journal(bench, body="json"), "protobuf": journal(bench)}
    for build, cpu in measure(bench, "otlp-json", sides):
        what = build.label("CPU a span")
        bench.add(compare("otlp-json", what, cpu["JSON"], cpu["protobuf"], "<= 2.5", " µs", "protobuf:"))


def grpc(bench):
    sides = {"gRPC": journal(bench, url="otlp_grpc"), "HTTP": journal(bench)}
    for build, cpu in measure(bench, "grpc", sides):
        bench.add(compare("grpc", build.label("CPU a span"), cpu["gRPC"], cpu["HTTP"], "<= 1.1", " µs", "HTTP:"))


TARGETS = [
    Target("native-json", 4, "native events of 450 bytes, 100 a request, beside serde on the same bodies", native_json),
    Target("gzip", 4, "compressed requests, beside inflate alone and uncompressed requests", gzip),
    Target("otlp-json", 4, "OTLP's JSON, beside protobuf", otlp_json),
    Target("grpc", 4, "OTLP over gRPC, beside HTTP", grpc),
]
