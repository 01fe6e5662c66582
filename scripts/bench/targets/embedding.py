"""OTLP into SQLite: `sqlite`.

Invariant: the floor inserts the rows that the service wrote, read from the service's own file.
"""

import os
import shutil
import sqlite3

from scripts.bench.database import FROZEN
from scripts.bench.result import compare
from scripts.bench.sides import service
from scripts.bench.target import Target
from scripts.bench.targets.receiving import check_accepted, check_counted
from scripts.bench.targets.storing import rate_of

REQUESTS = 1_000


def into_sqlite(bench, build, directory):
    """Sends requests and waits for the last commit; returns rows a second."""
    with service(bench, build, None, directory=directory) as ours:
        sent = bench.generate(
            "flood", url=ours.otlp_http, pid=ours.pid, requests=REQUESTS, spans=500, connections=4
        )
        rate = rate_of(ours, sent)
        check_accepted(sent)
    with sqlite3.connect(f"{directory}/data/telemetry.db") as database:
        check_counted(sent["spans"], database.execute("SELECT count(*) FROM telemetry_events").fetchone()[0], "the file")
    database.close()
    return rate


def sqlite(bench):
    ours = {build.name: [] for build in bench.builds}
    floors = []
    for _ in bench.rounds(5):
        directories = []
        for build in bench.builds:
            directories.append(bench.path("sqlite"))
            ours[build.name].append(into_sqlite(bench, build, directories[-1]))
            bench.keep("sqlite", build.label("service, rows/s"), ours[build.name][-1])
        named = {"source": f"{directories[0]}/data/telemetry.db", "schema": FROZEN / "sqlite.sql"}
        figures = bench.generate("sqlite", file=f"{directories[0]}/floor.db", **named)
        floors.append(figures["rows_per_s"])
        bench.keep("sqlite", "loop of inserts", figures)
        for directory in directories:
            shutil.rmtree(directory)
    for build in bench.builds:
        what = build.label("rows a second")
        bench.add(compare("sqlite", what, ours[build.name], floors, ">= 0.9", "/s", "loop of multi-row inserts:"))


TARGETS = [Target("sqlite", 4, "rows a second into SQLite, beside a loop of prepared multi-row inserts", sqlite)]
