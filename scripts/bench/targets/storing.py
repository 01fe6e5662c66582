"""OTLP into PostgreSQL: `end-to-end`, `cpu`.

Invariant: the rows of the floors are the rows that the service wrote, in number and in content.
"""

import os
import time

from scripts.bench.database import COPY_IN
from scripts.bench.result import absolute, compare
from scripts.bench.sides import service
from scripts.bench.target import Target
from scripts.bench.targets.receiving import check_accepted, check_counted, into_idle_collector

REQUESTS = 3_000
SPANS = 500
CONNECTIONS = 4


def rate_of(ours, sent):
    """Waits for the last commit; returns rows a second since the first request."""
    ours.await_drained()
    return round(sent["spans"] / (time.time() - sent["began_unix_nano"] / 1e9))


def end_to_end_once(bench, build, body="spans", export=None):
    """Sends requests and waits for the last commit; returns rows a second, and CPU of service and generator a span."""
    with bench.postgres.database() as url, service(bench, build, url) as ours:
        cpu = ours.cpu_seconds()
        sent = bench.generate(
            "flood",
            url=ours.otlp_http,
            pid=ours.pid,
            requests=REQUESTS,
            spans=SPANS,
            connections=CONNECTIONS,
            body=body,
        )
        rate = rate_of(ours, sent)
        cpu = ours.cpu_seconds() - cpu
        check_accepted(sent)
        check_counted(sent["spans"], bench.postgres.rows(url), "the table")
        if export:
            bench.postgres.export(url, export)
        return {
            "rows": sent["spans"],
            "rows_per_s": rate,
            "cpu_us_per_span": round(cpu / sent["spans"] * 1e6, 3),
            "generator_us_per_span": sent["generator_us_per_span"],
        }


def one_copy(bench, file):
    """Rows a second of one binary `\\copy`."""
    with bench.postgres.floor() as url:
        began = time.monotonic()
        bench.postgres.copy(url, file)
        seconds = time.monotonic() - began
        return round(bench.postgres.rows(url) / seconds)


def two_copies(bench, file):
    """Rows a second of two connections that COPY batches of 10,000 rows."""
    with bench.postgres.floor() as url:
        figures = bench.generate("copy", url=url, statement=COPY_IN, file=file, connections=2, batch=10_000)
        check_counted(figures["rows"], bench.postgres.rows(url), "the floor's table")
        return figures["rows_per_s"]


def end_to_end(bench):
    usual = {build.name: [] for build in bench.builds}
    one_trace = {build.name: [] for build in bench.builds}
    one, two = [], []
    file = bench.path("rows")
    for _ in bench.rounds(3):
        for build in bench.builds:
            export = file if not os.path.exists(file) else None
            figures = end_to_end_once(bench, build, export=export)
            usual[build.name].append(figures["rows_per_s"])
            bench.keep("end-to-end", build.label("service"), figures)
        one.append(one_copy(bench, file))
        bench.keep("end-to-end", "one COPY, rows/s", one[-1])
        for build in bench.builds:
            figures = end_to_end_once(bench, build, body="one-trace")
            one_trace[build.name].append(figures["rows_per_s"])
            bench.keep("end-to-end", build.label("half of all rows in one trace"), figures)
        two.append(two_copies(bench, file))
        bench.keep("end-to-end", "two COPYs, rows/s", two[-1])
    os.remove(file)
    for build in bench.builds:
        ours = usual[build.name]
        what = build.label("rows a second")
        bench.add(compare("end-to-end", what, ours, one, ">= 1.2", "/s", "one binary \\copy:"))
        bench.add(compare("end-to-end", what, ours, two, ">= 0.85", "/s", "two COPYs of 10,000 rows:"))
        what = build.label("rows a second, half of them in one trace")
        bench.add(compare("end-to-end", what, one_trace[build.name], ours, ">= 0.9", "/s", "all in traces of ten:"))


def cpu(bench):
    ours = {build.name: [] for build in bench.builds}
    generator, floors = [], []
    for _ in bench.rounds(3):
        for build in bench.builds:
            figures = end_to_end_once(bench, build)
            ours[build.name].append(figures["cpu_us_per_span"])
            generator.append(figures["generator_us_per_span"])
            bench.keep("cpu", build.label("service"), figures)
        figures = into_idle_collector(bench, bench.seconds(3))
        floors.append(figures["cpu_us_per_span"])
        bench.keep("cpu", "Collector", figures)
    for build in bench.builds:
        what = build.label("CPU a span, end to end")
        bench.add(absolute("cpu", what, ours[build.name], "<= 1.8", " µs"))
        bench.add(compare("cpu", what, ours[build.name], floors, "<= 0.9", " µs", "Collector that stores nothing:"))
    bench.add(absolute("cpu", "the load generator's own CPU a span", generator, "<= 0.3", " µs"))


TARGETS = [
    Target("end-to-end", 6, "rows a second from the first request to the last commit, beside COPY of the same rows", end_to_end),
    Target("cpu", 4, "CPU a span from the first request to the last commit, beside a Collector that stores nothing", cpu),
]
