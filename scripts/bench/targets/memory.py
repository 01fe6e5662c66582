"""The memory of the process: `memory`.

Invariant: memory is what the kernel counts as resident, at its peak unless the process is idle.
"""

import time

from scripts.bench.result import Line, absolute, number
from scripts.bench.sides import service
from scripts.bench.target import Target
from scripts.bench.targets.receiving import check_accepted, check_counted

FLOOD_SECONDS = 600
# Requests of 140 to 2,800 spans: 50 KiB to 1 MiB.
FLOOD = {"body": "mixed", "spans": 2_800, "connections": 16}
FULL_SPEED = {"requests": 6_000, "spans": 500, "connections": 16}


def idle(bench, build):
    with bench.postgres.database() as url, service(bench, build, url) as ours:
        time.sleep(10)
        return ours.memory_mib()


def flood(bench, build, seconds):
    """Returns the memory at each second of a flood without a database, which soon fills the journal, and the peak."""
    with service(bench, build, RUVVECTOR_JOURNAL_MAX_BYTES="2GiB") as ours:
        samples = []
        named = {"url": ours.otlp_http, "pid": ours.pid, "seconds": seconds, **FLOOD}
        with bench.generating("flood", **named) as child:
            while child.poll() is None:
                samples.append(ours.memory_mib())
                time.sleep(1)
        return samples, ours.memory_mib("VmHWM")


def full_speed(bench, build):
    with bench.postgres.database() as url, service(bench, build, url) as ours:
        sent = bench.generate("flood", url=ours.otlp_http, pid=ours.pid, **FULL_SPEED)
        check_accepted(sent)
        ours.await_drained()
        check_counted(sent["spans"], bench.postgres.rows(url), "the table")
        return ours.memory_mib("VmHWM")


def memory(bench):
    seconds = bench.seconds(FLOOD_SECONDS)
    for build in bench.builds:
        resting = [idle(bench, build) for _ in bench.rounds(3)]
        bench.keep("memory", build.label("idle, MiB"), resting)
        bench.add(absolute("memory", build.label("idle"), resting, "<= 12", " MiB"))
        samples, peak = flood(bench, build, seconds)
        bench.keep("memory", build.label("flood without database, MiB"), samples)
        what = build.label(f"peak of {seconds} s of requests up to 1 MiB without a database")
        bench.add(absolute("memory", what, [peak], "<= 100", " MiB"))
        bench.add(flat(build, samples))
        storing = [full_speed(bench, build) for _ in bench.rounds(3)]
        bench.keep("memory", build.label("full speed, MiB"), storing)
        bench.add(absolute("memory", build.label("peak at full speed into PostgreSQL"), storing, "<= 150", " MiB"))


def flat(build, samples):
    """Compares the last quarter of the flood with the second: the first is the way up."""
    quarter = len(samples) // 4
    early, late = max(samples[quarter : 2 * quarter]), max(samples[-quarter:])
    what = build.label("growth from the second quarter of the flood to the last")
    figure = f"{number(early)} to {number(late)} MiB"
    return Line("memory", what, figure, "", number(late / early), "<= 1.05x", late <= 1.05 * early)


TARGETS = [Target("memory", 4, "resident memory idle, under a flood without a database, and at full speed", memory)]
