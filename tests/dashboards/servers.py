"""The real binary, a real Prometheus and what stands beside it, each for as long as a `with` block lasts.

Invariant: each has a directory of its own and free ports, and is gone with both after the block.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

PATIENCE_SECONDS = 60
# The user without rights, on every Linux: Prometheus never runs as root.
NOBODY = 65_534
PROXYLESS = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def until(what, attempt):
    """The first answer of `attempt` that is not None."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := attempt()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_SECONDS} s: {what}")
        time.sleep(0.2)
    return answer


def ask(url, body=None, content_type="application/json"):
    """Status and text of an answer; (0, reason) if there was none."""
    request = urllib.request.Request(url, body, {"content-type": content_type} if body is not None else {})
    try:
        with PROXYLESS.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@contextlib.contextmanager
def running(command, log, **options):
    with open(log, "wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, **options)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def process(binary, directory, **settings):
    """The child and the addresses of its listeners, `main`, `otlp_http`, `otlp_grpc`; its data stays in `directory`."""
    ports = {f"RUVVECTOR_{name}": "0" for name in ["SERVICE_PORT", "OTLP_HTTP_PORT", "OTLP_GRPC_PORT"]}
    log = f"{directory}/log"

    def listeners():
        assert child.poll() is None, open(log).read()
        lines = [json.loads(line) for line in open(log) if line.startswith("{") and line.endswith("}\n")]
        found = {line["listener"]: line["address"].split(",")[0] for line in lines if line["message"] == "listening"}
        return found if len(found) == 3 else None

    environment = {
        "PATH": os.environ["PATH"],
        "RUVVECTOR_BIND": "127.0.0.1",
        "RUVVECTOR_LOG_FORMAT": "json",
        "RUVVECTOR_DATA_DIR": f"{directory}/data",
        **ports,
        **settings,
    }
    with running([os.path.abspath(binary)], log, env=environment, cwd=directory) as child:
        yield child, until("the service listens", listeners)


@contextlib.contextmanager
def service(binary, database_url=None, **settings):
    """The addresses of its listeners; without a database it is on SQLite."""
    store = {"RUVVECTOR_STORE": "sqlite"}
    if database_url:
        store = {"RUVVECTOR_STORE": "postgres", "DATABASE_URL": database_url}
    with tempfile.TemporaryDirectory(prefix="ruvvector-dashboards-") as directory:
        settings = {"RUVVECTOR_MAINTENANCE_INTERVAL": "1s", **store, **settings}
        with process(binary, directory, **settings) as (_, listeners):
            yield listeners


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextlib.contextmanager
def unprivileged(program, files, flags, address):
    """A server of Prometheus's family, in a directory with these files, once it is ready: its address."""
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
            # What lies in a checkout may be out of that user's reach.
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
    """The address of a Prometheus with this configuration, beside which `files` lie."""
    # JSON is YAML.
    files = {"prometheus.yml": json.dumps(configuration), **(files or {})}
    flags = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", *flags]
    return unprivileged(program, files, flags, address or free_address())


def prometheus_answer(address, path, **parameters):
    """`data` of Prometheus's answer; its error ends the check."""
    status, text = ask(f"{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    assert status == 200, f"{parameters}: {text}"
    return json.loads(text)["data"]
