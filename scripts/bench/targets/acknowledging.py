"""The time until a request is acknowledged, while PostgreSQL stores its rows: `acknowledgement`.

Invariant: both sides sync the same bytes at the same rate, while the same rows are copied at the same rate.
"""

import os

from scripts.bench.database import COPY_IN
from scripts.bench.result import Line, number, spread
from scripts.bench.sides import service
from scripts.bench.target import Target
from scripts.bench.targets.receiving import check_accepted, check_counted

RATE = 20_000
SPANS = 100
# Three rounds of 34 s are 20,400 requests a side.
SECONDS = 34
# As many rows as arrive in 200 ms, after which the service ends a batch.
BATCH = 4_000


def percentile(samples, percent):
    return sorted(samples)[min(len(samples) * percent // 100, len(samples) - 1)]


def samples_of(file):
    """Latencies of one run in milliseconds."""
    with open(file) as lines:
        samples = [int(line) / 1000 for line in lines]
    os.remove(file)
    return samples


def acknowledged(bench, build, seconds, export):
    file = bench.path("samples")
    with bench.postgres.database() as url, service(bench, build, url) as ours:
        named = {"rate": RATE, "spans": SPANS, "seconds": seconds, "samples": file}
        figures = bench.generate("steady", url=ours.otlp_http, pid=ours.pid, **named)
        check_accepted(figures)
        ours.await_drained()
        check_counted(figures["spans"], bench.postgres.rows(url), "the table")
        if export:
            bench.postgres.export(url, export)
    bench.keep("acknowledgement", build.label("service"), figures)
    return samples_of(file)


def bare(bench, seconds, rows):
    file = bench.path("samples")
    with bench.postgres.floor() as url:
        copy = {"url": url, "statement": COPY_IN, "file": rows, "connections": 1, "batch": BATCH, "rate": RATE}
        with bench.generating("copy", **copy) as copying:
            named = {"file": bench.path("synced"), "rate": RATE, "spans": SPANS, "seconds": seconds, "samples": file}
            figures = bench.generate("sync", **named)
            copying.communicate()
        check_counted(seconds * RATE, bench.postgres.rows(url), "the floor's table")
    bench.keep("acknowledgement", "bare write and sync", figures)
    return samples_of(file)


def acknowledgement(bench):
    seconds = bench.seconds(SECONDS)
    ours = {build.name: [] for build in bench.builds}
    floors = []
    rows = bench.path("rows")
    for _ in bench.rounds(3):
        for build in bench.builds:
            export = rows if not os.path.exists(rows) else None
            ours[build.name].append(acknowledged(bench, build, seconds, export))
        floors.append(bare(bench, seconds, rows))
    os.remove(rows)
    for build in bench.builds:
        for percent in (50, 99):
            bench.add(line(build, percent, ours[build.name], floors))


def line(build, percent, ours, floors):
    """Judges the samples of all rounds together; the spread is the rounds'."""
    our, floor = (percentile(sum(rounds, []), percent) for rounds in (ours, floors))
    bound = 1 + 1.5 * floor if percent == 50 else 2 * floor
    each = [percentile(our, percent) / percentile(floor, percent) for our, floor in zip(ours, floors, strict=True)]
    return Line(
        "acknowledgement",
        build.label(f"p{percent} of {sum(map(len, ours)):,} requests"),
        f"{number(our)} ms ({spread([percentile(each, percent) for each in ours])})",
        f"bare write and sync {number(floor)} ms ({spread([percentile(each, percent) for each in floors])})",
        spread(each),
        f"<= {number(bound)} ms" + (" (1 ms + 1.5 syncs)" if percent == 50 else " (2x)"),
        our <= bound,
    )


TARGETS = [
    Target("acknowledgement", 5, "latency at 20,000 spans/s while they are stored, beside a bare write and sync", acknowledgement)
]
