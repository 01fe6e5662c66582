"""The real binary and a real Prometheus that scrapes it, each for as long as a `with` block lasts.

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
def service(binary, settings):
    """The addresses of its listeners: `main`, `otlp_http`, `otlp_grpc`. `settings`, variables, win over what is set here."""
    with tempfile.TemporaryDirectory(prefix="ruvvector-service-") as directory:
        common = {"RUVVECTOR_DATA_DIR": f"{directory}/data", "RUVVECTOR_MAINTENANCE_INTERVAL": "1s"}
        ports = {f"RUVVECTOR_{name}": "0" for name in ["SERVICE_PORT", "OTLP_HTTP_PORT", "OTLP_GRPC_PORT"]}
        log = f"{directory}/log"

        def listeners():
            assert child.poll() is None, open(log).read()
            lines = [json.loads(line) for line in open(log) if line.startswith("{") and line.endswith("}\n")]
            found = {
                line["listener"]: line["address"].split(",")[0] for line in lines if line["message"] == "listening"
            }
            return found if len(found) == 3 else None

        environment = {
            "PATH": os.environ["PATH"],
            "RUVVECTOR_BIND": "127.0.0.1",
            "RUVVECTOR_LOG_FORMAT": "json",
            **common,
            **ports,
            **settings,
        }
        with running([os.path.abspath(binary)], log, env=environment, cwd=directory) as child:
            yield until("the service listens", listeners)


@contextlib.contextmanager
def prometheus(target, rules=(), targets=None):
    """The address of one that scrapes `target` every second, as the job `ruvvector`, and by the files `rules`.

    `targets` is a file of more targets, which may change meanwhile (https://prometheus.io/docs/guides/file-sd/).
    """
    with tempfile.TemporaryDirectory(prefix="ruvvector-prometheus-") as directory:
        with open(f"{directory}/prometheus.yml", "w") as file:
            file.write(
                "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules/*]\n"
                "scrape_configs:\n- job_name: ruvvector\n"
                f"  static_configs: [{{targets: ['{target.removeprefix('http://')}']}}]\n"
            )
            if targets:
                file.write(f"  file_sd_configs: [{{files: ['{targets}'], refresh_interval: 1s}}]\n")
        os.mkdir(f"{directory}/rules")
        for rule in rules:
            shutil.copy(rule, f"{directory}/rules")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        options = {"cwd": directory}
        if os.geteuid() == 0:
            shutil.chown(directory, NOBODY, NOBODY)
            options |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        command = [
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address={address}",
        ]
        with running(command, f"{directory}/log", **options):
            until("Prometheus is ready", lambda: True if ask(f"http://{address}/-/ready")[0] == 200 else None)
            yield f"http://{address}"


def prometheus_answer(address, path, **parameters):
    """`data` of Prometheus's answer; its error ends the check."""
    status, text = ask(f"{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    assert status == 200, f"{parameters}: {text}"
    return json.loads(text)["data"]
