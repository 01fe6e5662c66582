"""The programs that are measured: the service, the reference Collector, and the server that drops.

Invariant: each has its own directory and free ports, and both are gone after the block.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import time
import urllib.request

from tests.common import ROOT
from tests.common.ports import free_address
from tests.common.programs import running, until
from tests.common.servers import PROXYLESS, ask, process

# Nothing listens there: the journal alone is measured.
NO_DATABASE = "postgres://postgres@127.0.0.1:1/none"


@dataclasses.dataclass
class Service:
    pid: int
    main: str
    otlp_http: str
    otlp_grpc: str

    def metric(self, name):
        """The value of a metric without labels."""
        with PROXYLESS.open(urllib.request.Request(f"{self.main}/metrics"), timeout=20) as answer:
            page = answer.read().decode()
        return float(re.search(rf"^{name} (\S+)$", page, re.MULTILINE)[1])

    def queued(self):
        return int(self.metric("ruvvector_queue_events"))

    def await_drained(self, seconds=900):
        """Waits until every event in the journal is stored."""
        deadline = time.monotonic() + seconds
        while self.queued() > 0:
            if time.monotonic() > deadline:
                raise SystemExit(f"the journal was not written within {seconds} s")
            # Each question costs the service about half a millisecond of the CPU that is measured.
            time.sleep(0.1)

    def cpu_seconds(self):
        """User and system time of all threads."""
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self, key="VmRSS"):
        """A row of /proc/PID/status in MiB: VmRSS, or VmHWM for the peak."""
        with open(f"/proc/{self.pid}/status") as file:
            return int(re.search(rf"^{key}:\s+(\d+) kB", file.read(), re.MULTILINE)[1]) / 1024


@contextlib.contextmanager
def service(bench, build, database_url=NO_DATABASE, under=(), directory=None, **settings):
    """Runs a build of the service during the block, ready for requests; its data is removed unless a directory is given."""
    place = directory or bench.path("service")
    os.makedirs(place, exist_ok=True)
    store = {"RUVVECTOR_STORE": "postgres", "DATABASE_URL": database_url} if database_url else {"RUVVECTOR_STORE": "sqlite"}
    settings = {
        "RUVVECTOR_JOURNAL_MAX_BYTES": "12GiB",
        "RUVVECTOR_SHUTDOWN_GRACE": "1s",
        "RUVVECTOR_RETRY_MAX": "1s",
        **store,
        **settings,
    }
    try:
        with process(build.binary, place, under=under, **settings) as (child, listeners):
            until("the service is ready", lambda: True if ask(f"{listeners['main']}/health/ready")[0] == 200 else None)
            yield Service(child.pid, **listeners)
    finally:
        if not directory:
            shutil.rmtree(place)


@contextlib.contextmanager
def collector(bench, configuration, **environment):
    """Runs the reference Collector during the block; yields its process and the URL of its OTLP/HTTP receiver."""
    place = bench.path("collector")
    os.makedirs(place)
    address = free_address()
    environment = {"PATH": os.environ["PATH"], "OTLP_HTTP": address, "OTLP_GRPC": free_address(), **environment}
    quiet = ["--set=service.telemetry.metrics.level=none", "--set=service.telemetry.logs.level=error"]
    command = [bench.collector, f"--config={configuration}", *quiet]
    try:
        with running(command, f"{place}/log", env=environment, cwd=place) as child:

            def answers():
                assert child.poll() is None, open(f"{place}/log").read()
                return True if ask(f"http://{address}/v1/traces", b"{}")[0] == 200 else None

            until("the Collector answers", answers)
            yield child.pid, f"http://{address}"
    finally:
        shutil.rmtree(place)


@contextlib.contextmanager
def idle_collector(bench):
    """A Collector that decodes what it receives and stores nothing."""
    endpoint = "${env:OTLP_HTTP}"
    configuration = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": endpoint}}}},
        "exporters": {"nop": {}},
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["nop"]}}},
    }
    path = bench.path("nop.yaml")
    with open(path, "w") as file:
        # JSON is YAML.
        json.dump(configuration, file)
    with collector(bench, path) as side:
        yield side


@contextlib.contextmanager
def queueing_collector(bench):
    """A Collector that syncs each request to its queue on disk, and sends it on to a server that drops it."""
    with dropping_server(bench) as (_, url):
        queue = bench.path("queue")
        configuration = ROOT / "tests/collector/http.yaml"
        try:
            with collector(bench, configuration, RUVVECTOR=url, QUEUE_DIRECTORY=queue) as side:
                yield side
        finally:
            shutil.rmtree(queue)


@contextlib.contextmanager
def dropping_server(bench):
    """A server that reads bodies and drops them; yields its process and URL."""
    with bench.generating("drop") as child:
        yield child.pid, json.loads(child.stdout.readline())["address"]
