"""A table that grows: `growth`.

Invariant: both tables have 30 days; the smaller and the larger one are measured in turn, by the same build.
"""

import contextlib

from scripts.bench.dataset import dataset, trace_id
from scripts.bench.result import compare
from scripts.bench.sides import service
from scripts.bench.target import Target
from scripts.bench.targets.querying import ANSWERS
from scripts.bench.targets.receiving import check_accepted, check_counted
from scripts.bench.targets.storing import rate_of

# Three rounds, so that the current day has less than two million rows at the end.
REQUESTS = 1_200


def sizes(options):
    """Rows of the smaller and of the larger table: 1 and 50 million, or the same shares of `--rows`."""
    return options.rows // 10, options.rows * 5


def ingest(bench, build, url):
    """Rows a second from the first request to the last commit, into a table with rows."""
    before = bench.postgres.rows(url)
    bench.postgres.sql(url, "CHECKPOINT")
    with service(bench, build, url) as ours:
        sent = bench.generate("flood", url=ours.otlp_http, pid=ours.pid, requests=REQUESTS, spans=500, connections=4)
        rate = rate_of(ours, sent)
        check_accepted(sent)
        check_counted(before + sent["spans"], bench.postgres.rows(url), "the table")
        return rate


def look_up(bench, build, url, rows):
    """p50 of a trace by its id, in milliseconds."""
    file = bench.path("paths")
    with open(file, "w") as out:
        out.writelines(f"/traces/{trace_id(rows * part // 40)}\n" for part in range(1, 40, 2))
    with service(bench, build, url) as ours:
        return bench.generate("ask", url=ours.main, paths=file, count=ANSWERS)["p50_ms"]


def growth(bench):
    for build in bench.builds:
        tables = []
        rates, answers = {}, {}
        with contextlib.ExitStack() as stack:
            for rows in sizes(bench.options):
                url, _ = stack.enter_context(dataset(bench, build, rows))
                tables.append((rows, url))
            for _ in bench.rounds(3):
                for rows, url in tables:
                    rates.setdefault(rows, []).append(ingest(bench, build, url))
                    answers.setdefault(rows, []).append(look_up(bench, build, url, rows))
                    bench.keep("growth", build.label(f"{rows:,} rows"), {"rows_per_s": rates[rows][-1], "trace_ms": answers[rows][-1]})
        small, large = sizes(bench.options)
        floor = f"with {small:,} rows:"
        what = build.label(f"rows a second into {large:,} rows")
        bench.add(compare("growth", what, rates[large], rates[small], ">= 0.9", "/s", floor))
        what = build.label(f"trace by id among {large:,} rows")
        bench.add(compare("growth", what, answers[large], answers[small], "<= 1.5", " ms", floor))


TARGETS = [Target("growth", 4, "ingest and a trace by id in a table of 30 days with 1 and with 50 million rows", growth, 3_600)]
