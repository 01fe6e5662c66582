"""The service, Prometheus, and stand-ins for servers, each for as long as a `with` block lasts.

Invariant: each server has its own directory and free ports, and both are released after the block.
"""

import contextlib
import http.server
import json
import os
import shutil
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

from tests.common.ports import free_address
from tests.common.programs import running, until

# The user without rights, on every Linux: Prometheus never runs as root.
NOBODY = 65_534
PROXYLESS = urllib.request.build_opener(urllib.request.ProxyHandler({}))
LISTENERS = ("main", "otlp_http", "otlp_grpc")


def ask(url, body=None, headers=None):
    """Returns status and text of an answer, or 0 and the reason if there is none. A body is sent as JSON by default."""
    headers = {**({"content-type": "application/json"} if body is not None else {}), **(headers or {})}
    request = urllib.request.Request(url, body, headers)
    try:
        with PROXYLESS.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


@contextlib.contextmanager
def process(binary, directory, under=(), **settings):
    """Runs the service with its data in `directory`; yields the child and the address of each of `LISTENERS`.

    `under` is the command of a tool that runs the binary, such as a profiler.
    """
    ports = {f"RUVVECTOR_{name}": "0" for name in ["SERVICE_PORT", "OTLP_HTTP_PORT", "OTLP_GRPC_PORT"]}
    log = f"{directory}/log"

    def listeners():
        assert child.poll() is None, open(log).read()
        lines = [json.loads(line) for line in open(log) if line.startswith("{") and line.endswith("}\n")]
        found = {line["listener"]: line["address"].split(",")[0] for line in lines if line["message"] == "listening"}
        return found if len(found) == len(LISTENERS) else None

    environment = {
        "PATH": os.environ["PATH"],
        "RUVVECTOR_BIND": "127.0.0.1",
        "RUVVECTOR_LOG_FORMAT": "json",
        "RUVVECTOR_DATA_DIR": f"{directory}/data",
        **ports,
        **settings,
    }
    with running([*under, os.path.abspath(binary)], log, env=environment, cwd=directory) as child:
        yield child, until("the service listens", listeners)


@contextlib.contextmanager
def service(binary, database_url=None, **settings):
    """Runs the service in a temporary directory, on SQLite if no database is given; yields its listeners' addresses."""
    store = {"RUVVECTOR_STORE": "sqlite"}
    if database_url:
        store = {"RUVVECTOR_STORE": "postgres", "DATABASE_URL": database_url}
    with tempfile.TemporaryDirectory(prefix="ruvvector-service-") as directory:
        settings = {"RUVVECTOR_MAINTENANCE_INTERVAL": "1s", **store, **settings}
        with process(binary, directory, **settings) as (_, listeners):
            yield listeners


@contextlib.contextmanager
def unprivileged(program, files, flags, address):
    """Runs a server of Prometheus's family in a directory with `files`; yields its URL once it is ready."""
    path = shutil.which(program)
    assert path, f"{program} is missing"
    with tempfile.TemporaryDirectory(prefix=f"ruvvector-{os.path.basename(path)}-") as directory:
        for name, text in files.items():
            with open(f"{directory}/{name}", "w") as file:
                file.write(text)
        options = {"cwd": directory}
        if os.geteuid() == 0:
            shutil.chown(directory, NOBODY, NOBODY)
            options |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            # That user may not be able to read a checkout.
            if not path.startswith("/usr/"):
                path = shutil.copy(path, directory)
        with running([path, *flags, f"--web.listen-address={address}"], f"{directory}/log", **options) as child:

            def ready():
                assert child.poll() is None, open(f"{directory}/log").read()
                return True if ask(f"http://{address}/-/ready")[0] == 200 else None

            until(f"{program} is ready", ready)
            yield f"http://{address}"


def scrape(job, *targets):
    addresses = [target.removeprefix("http://") for target in targets]
    return {"job_name": job, "static_configs": [{"targets": addresses}]}


def prometheus(configuration, program="prometheus", files=None, flags=(), address=None):
    """Runs a Prometheus with this configuration and these other files; yields its URL."""
    # JSON is YAML.
    files = {"prometheus.yml": json.dumps(configuration), **(files or {})}
    flags = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", *flags]
    return unprivileged(program, files, flags, address or free_address())


def prometheus_answer(address, path, **parameters):
    """Returns `data` of Prometheus's answer; its error ends the test."""
    status, text = ask(f"{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    assert status == 200, f"{parameters}: {text}"
    return json.loads(text)["data"]


class QuietHandler(http.server.BaseHTTPRequestHandler):
    """Answers requests of a stand-in without a line on standard error for each."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def http_server(handler):
    """Runs an HTTP server that answers with `handler`; yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
