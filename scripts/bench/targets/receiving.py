"""OTLP over HTTP into the synced journal: `receive`, `receive-rate`, `one-span`.

Invariant: the journal's count of events, or the table's of rows, equals the spans that were acknowledged.
"""

import contextlib
import os
import re
import sys

from scripts.bench.result import compare
from scripts.bench.sides import dropping_server, idle_collector, queueing_collector, service
from scripts.bench.target import Target
from tests.common import ROOT

STANDARD = {"spans": 500, "connections": 16}
# Instructions of user space for each span of the standard request, before receiving was made faster (2026-12-01).
INSTRUCTIONS_BEFORE = 9_277
# A budget that a run's requests nearly fill, so that each new segment is a recycled one.
RECYCLING_BUDGET = "1GiB"
RECYCLING_FILL_REQUESTS = 5_000
RECYCLING_REQUESTS = 3_500


def check_counted(spans, counted, what):
    if spans != counted:
        raise SystemExit(f"{spans} spans were acknowledged and {counted} are in {what}")


def check_accepted(figures):
    if figures["accepted"] != figures["requests"]:
        raise SystemExit(f"{figures['requests'] - figures['accepted']} of {figures['requests']} requests were refused")


def into_journal(bench, build, seconds, url="otlp_http", **named):
    """Sends requests to a new service without a database; returns the load generator's figures."""
    with service(bench, build) as ours:
        address = getattr(ours, url)
        if url == "otlp_grpc":
            address = address.replace("http://", "grpc://")
        figures = bench.generate("flood", url=address, pid=ours.pid, seconds=seconds, **{**STANDARD, **named})
        check_accepted(figures)
        check_counted(figures["spans"], ours.queued(), "the journal")
        return figures


def into_idle_collector(bench, seconds):
    with idle_collector(bench) as (pid, url):
        figures = bench.generate("flood", url=url, pid=pid, seconds=seconds, **STANDARD)
        check_accepted(figures)
        return figures


@contextlib.contextmanager
def locked(bench, url):
    """Keeps the service from writing during the block."""
    lock = "BEGIN; LOCK TABLE telemetry_events IN ACCESS EXCLUSIVE MODE; SELECT pg_advisory_lock(1); SELECT pg_sleep(600);"
    with bench.postgres.session(url, lock) as is_there:
        is_there("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND granted")
        yield


class RecyclingService:
    """A service whose journal is full of stored segments, so that requests are written into recycled ones."""

    def __init__(self, bench, build, stack):
        self.bench = bench
        self.url = stack.enter_context(bench.postgres.database())
        self.service = stack.enter_context(
            service(bench, build, self.url, RUVVECTOR_JOURNAL_MAX_BYTES=RECYCLING_BUDGET)
        )
        self.write_and_remove(self.flood(RECYCLING_FILL_REQUESTS))

    def flood(self, requests):
        figures = self.bench.generate(
            "flood", url=self.service.otlp_http, pid=self.service.pid, requests=requests, **STANDARD
        )
        check_accepted(figures)
        return figures

    def write_and_remove(self, figures):
        """Waits until the journal is written, counts the rows and removes them."""
        self.service.await_drained()
        check_counted(figures["spans"], self.bench.postgres.rows(self.url), "the table")
        self.bench.postgres.sql(self.url, "TRUNCATE telemetry_events", "CHECKPOINT")

    def measure(self):
        with locked(self.bench, self.url):
            figures = self.flood(RECYCLING_REQUESTS)
        self.write_and_remove(figures)
        return figures


def receive(bench):
    seconds = bench.seconds(3)
    fresh = {build.name: [] for build in bench.builds}
    floors = []
    for _ in bench.rounds(9):
        for build in bench.builds:
            figures = into_journal(bench, build, seconds)
            fresh[build.name].append(figures["cpu_us_per_span"])
            bench.keep("receive", build.label("fresh segments"), figures)
        figures = into_idle_collector(bench, seconds)
        floors.append(figures["cpu_us_per_span"])
        bench.keep("receive", "Collector", figures)
    for build in bench.builds:
        bench.add(receive_line(build, "fresh segments", fresh[build.name], floors))


def receive_recycled(bench):
    seconds = bench.seconds(3)
    recycled = {build.name: [] for build in bench.builds}
    floors = []
    with contextlib.ExitStack() as stack:
        services = [(build, RecyclingService(bench, build, stack)) for build in bench.builds]
        for _ in bench.rounds(9):
            for build, ours in services:
                figures = ours.measure()
                recycled[build.name].append(figures["cpu_us_per_span"])
                bench.keep("receive-recycled", build.label("recycled segments"), figures)
            figures = into_idle_collector(bench, seconds)
            floors.append(figures["cpu_us_per_span"])
            bench.keep("receive-recycled", "Collector", figures)
    for build in bench.builds:
        bench.add(receive_line(build, "recycled segments", recycled[build.name], floors))


def receive_line(build, what, ours, floors):
    what = build.label(f"CPU a span, {what}")
    return compare("receive", what, ours, floors, "<= 0.35", " µs", "Collector that stores nothing:")


def receive_instructions(bench):
    """Instructions for each span, as the difference between runs of N and 2N requests under callgrind."""
    per_span = {}
    for build in bench.builds:
        few, many = (instructions(bench, build, requests) for requests in (200, 400))
        per_span[build.name] = (many - few) / (200 * STANDARD["spans"])
        bench.keep("receive-instructions", build.label("instructions a span"), per_span[build.name])
    before = per_span[bench.builds[1].name] if len(bench.builds) > 1 else INSTRUCTIONS_BEFORE
    ours = per_span[bench.builds[0].name]
    floor = "the other build" if len(bench.builds) > 1 else "the build of 2026-12-01"
    bench.add(compare("receive", "instructions a span", [ours], [before], "<= 0.65", "", f"{floor}:"))


def instructions(bench, build, requests):
    directory = bench.path("callgrind")
    os.makedirs(directory)
    file = f"{directory}/out"
    launcher = ROOT / "scripts/bench/under_valgrind.py"
    under = [sys.executable, launcher, "valgrind", "--tool=callgrind", f"--callgrind-out-file={file}"]
    # With these the service does not execute itself again, which would leave callgrind.
    settings = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_ARENA_MAX": "4"}
    with service(bench, build, under=under, **settings) as ours:
        named = {**STANDARD, "connections": 1, "requests": requests}
        figures = bench.generate("flood", url=ours.otlp_http, pid=ours.pid, **named)
        check_accepted(figures)
        check_counted(figures["spans"], ours.queued(), "the journal")
    with open(file) as out:
        return int(re.search(r"^(?:summary|totals): (\d+)", out.read(), re.MULTILINE)[1])


def receive_rate(bench):
    """The database appears only after the run, so that the journal's backlog is written and counted then."""
    seconds = bench.seconds(10)
    ours = {build.name: [] for build in bench.builds}
    floors = []
    for _ in bench.rounds(3):
        for build in bench.builds:
            figures = flood_then_write(bench, build, seconds)
            ours[build.name].append(figures["spans_per_s"])
            bench.keep("receive-rate", build.label("service"), figures)
        with queueing_collector(bench) as (pid, url):
            figures = bench.generate("flood", url=url, pid=pid, seconds=seconds, **STANDARD)
        floors.append(figures["spans_per_s"])
        bench.keep("receive-rate", "Collector with a synced queue", figures)
    for build in bench.builds:
        what = build.label("spans accepted a second")
        bench.add(
            compare("receive-rate", what, ours[build.name], floors, ">= 6", "/s", "Collector with a synced queue:")
        )


def flood_then_write(bench, build, seconds):
    name = bench.postgres.new_name()
    try:
        with service(bench, build, bench.postgres.url_of(name)) as ours:
            figures = bench.generate("flood", url=ours.otlp_http, pid=ours.pid, seconds=seconds, **STANDARD)
            check_accepted(figures)
            url = bench.postgres.create(name)
            ours.await_drained()
            check_counted(figures["spans"], bench.postgres.rows(url), "the table")
            return figures
    finally:
        bench.postgres.drop(name)


def one_span(bench):
    seconds = bench.seconds(5)
    named = {"spans": 1, "connections": 128}
    ours = {build.name: [] for build in bench.builds}
    floors = []
    for _ in bench.rounds(5):
        for build in bench.builds:
            figures = into_journal(bench, build, seconds, **named)
            ours[build.name].append(figures["requests_per_s"])
            bench.keep("one-span", build.label("service"), figures)
        with dropping_server(bench) as (pid, url):
            figures = bench.generate("flood", url=url, pid=pid, seconds=seconds, **named)
        floors.append(figures["requests_per_s"])
        bench.keep("one-span", "server that drops", figures)
    for build in bench.builds:
        what = build.label("requests a second")
        bench.add(
            compare("one-span", what, ours[build.name], floors, ">= 0.7", "/s", "server that drops the body:")
        )


TARGETS = [
    Target("receive", 4, "CPU a span of 500-span requests into fresh segments, beside a Collector that stores nothing", receive),
    Target("receive-recycled", 8, "the same into recycled segments", receive_recycled),
    Target("receive-instructions", 1, "instructions a span of the same requests", receive_instructions, programs=("valgrind",)),
    Target("receive-rate", 16, "spans accepted a second, beside a Collector with a synced queue", receive_rate),
    Target("one-span", 4, "requests of one span over 128 connections, beside a server that drops the body", one_span),
]
