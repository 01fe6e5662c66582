"""A start with a gibibyte of unwritten journal: `restart`.

Invariant: the table's rows equal the spans that were acknowledged before the process was killed.
"""

import os
import shutil
import signal
import threading
import time

from scripts.bench.result import absolute, compare
from scripts.bench.sides import service
from scripts.bench.target import Target
from scripts.bench.targets.receiving import STANDARD, check_accepted, check_counted
from scripts.bench.targets.storing import two_copies
from tests.common.ports import free_port
from tests.common.servers import ask

# Of 182,500 bytes each: 1 GiB.
REQUESTS = 5_884


class FirstAnswer:
    """The time from now to the first answer of `/health/ready`."""

    def __init__(self, port):
        self.began = time.monotonic()
        self.seconds = None
        self.url = f"http://127.0.0.1:{port}/health/ready"
        threading.Thread(target=self.wait, daemon=True).start()

    def wait(self):
        while ask(self.url)[0] != 200:
            time.sleep(0.005)
        self.seconds = time.monotonic() - self.began


def killed_with_backlog(bench, build, directory):
    """Fills the journal of a service without a database and kills it; returns the number of spans."""
    with service(bench, build, directory=directory) as ours:
        sent = bench.generate("flood", url=ours.otlp_http, pid=ours.pid, requests=REQUESTS, **STANDARD)
        check_accepted(sent)
        os.kill(ours.pid, signal.SIGKILL)
    return sent["spans"]


def restarted(bench, build, export):
    directory = bench.path("restart")
    try:
        spans = killed_with_backlog(bench, build, directory)
        with bench.postgres.database() as url:
            port = free_port()
            answer = FirstAnswer(port)
            with service(bench, build, url, directory=directory, RUVVECTOR_SERVICE_PORT=port) as ours:
                ours.await_drained()
                seconds = time.monotonic() - answer.began - answer.seconds
                check_counted(spans, bench.postgres.rows(url), "the table")
            if export:
                bench.postgres.export(url, export)
        return {"answering_s": round(answer.seconds, 3), "rows_per_s": round(spans / seconds)}
    finally:
        shutil.rmtree(directory)


def restart(bench):
    ours = {build.name: [] for build in bench.builds}
    floors = []
    file = bench.path("rows")
    for _ in bench.rounds(3):
        for build in bench.builds:
            figures = restarted(bench, build, file if not os.path.exists(file) else None)
            ours[build.name].append(figures)
            bench.keep("restart", build.label("service"), figures)
        floors.append(two_copies(bench, file))
        bench.keep("restart", "two COPYs, rows/s", floors[-1])
    os.remove(file)
    for build in bench.builds:
        answering, rows = ([each[name] for each in ours[build.name]] for name in ("answering_s", "rows_per_s"))
        bench.add(absolute("restart", build.label("until the first answer"), answering, "<= 1", " s"))
        what = build.label("rows a second from the first answer to the last commit")
        bench.add(compare("restart", what, rows, floors, ">= 0.8", "/s", "two COPYs of 10,000 rows:"))


TARGETS = [Target("restart", 8, "start and rate of writing with 1 GiB of unwritten journal", restart)]
