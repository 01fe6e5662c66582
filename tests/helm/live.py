"""Runs what the chart's pods run: the real binary, with the arguments and variables of each, against a real PostgreSQL.

    scripts/with-postgres.sh live.py HELM BINARY

The migration's Job makes the schema; an instance takes events while the database is away, and is killed; its claim, named in
drain.claims, is emptied by the Job; the pod of `helm test` asks another instance.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from chart import CHART, VERSIONS, must
from image import free_ports
from promises import of

DEADLINE_SECONDS = 60
EVENTS = 25
TOKEN = "a-token"
AWAY = "postgres://ruvvector:secret@127.0.0.1:1/telemetry"


class Container:
    """A container of the chart on this machine: its volume and its settings file are where the folder is."""

    def __init__(self, binary, documents, spec, folder, url):
        (container,) = spec["containers"]
        config = next(d for d in documents if d["kind"] == "ConfigMap" and "ruvvector.toml" in d["data"])
        (folder / "ruvvector.toml").write_text(config["data"]["ruvvector.toml"])
        # What a cluster would put there.
        known = {"POD_NAMESPACE": "telemetry", "POD_NAME": "shop-ruvvector-service-0", "DATABASE_URL": url}
        known["RUVVECTOR_AUTH_TOKENS"] = TOKEN
        self.environment = {e["name"]: e["value"] if "value" in e else known[e["name"]] for e in container["env"]}
        for name, value in known.items():
            self.environment = {key: text.replace(f"$({name})", value) for key, text in self.environment.items()}
        here = {"RUVVECTOR_DATA_DIR": str(folder / "data"), "RUVVECTOR_CONFIG": str(folder / "ruvvector.toml")}
        self.environment |= {name: value for name, value in here.items() if name in self.environment}
        self.command, self.spec = [binary, *container["args"]], container

    def start(self, **environment):
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self.command, env=self.environment | environment, text=True, **streams)

    def ends_well(self, **environment):
        process = self.start(**environment)
        said, _ = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0, f"{self.command[1:]} ends with {process.returncode}: {said}"
        return said


def asked(url, data=None):
    """The answer. A token is shown with what is sent alone: probes and Prometheus have none."""
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {TOKEN}"} if data else {})
    with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
        return answer.read()


class Instance:
    """The StatefulSet's container on free ports, found ready by the chart's own probes."""

    def __init__(self, container):
        main, http, grpc = free_ports(3)
        self.url = f"http://127.0.0.1:{main}"
        ports = {"RUVVECTOR_SERVICE_PORT": main, "RUVVECTOR_OTLP_HTTP_PORT": http, "RUVVECTOR_OTLP_GRPC_PORT": grpc}
        self.process = container.start(RUVVECTOR_BIND="127.0.0.1", **ports)
        self.container = container

    def __enter__(self):
        try:
            self.wait_for_probes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for_probes(self):
        end = time.monotonic() + DEADLINE_SECONDS
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            while True:
                try:
                    asked(self.url + self.container.spec[probe]["httpGet"]["path"])
                    break
                except urllib.error.HTTPError as error:
                    assert error.code == 503 and time.monotonic() < end, f"{probe}: {error}"
                except OSError as error:
                    assert time.monotonic() < end and self.process.poll() is None, f"{probe}: {error}"
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def rows(url, query):
    return must("psql", "--quiet", "--no-align", "--tuples-only", url, "--command", query).split()


def main():
    helm, binary = sys.argv[1:]
    server = os.environ["RUVVECTOR_TEST_POSTGRES_URL"]
    must("psql", "--quiet", server, "--command", "CREATE DATABASE chart")
    url = server.rsplit("/", 1)[0] + "/chart"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        values = {"store": "postgres", "database": {"url": url}, "migration": {"enabled": True}}
        values |= {"auth": {"tokens": [TOKEN]}, "settings": {"batch_rows": 500}}
        values |= {"serviceMonitor": {"enabled": True}, "drain": {"claims": ["data-shop-ruvvector-service-1"]}}
        (folder / "values.yaml").write_text(yaml.safe_dump(values))
        text = must(helm, "template", "shop", CHART, "--kube-version", VERSIONS[-1], "--values", folder / "values.yaml")
        documents = [document for document in yaml.safe_load_all(text) if document]
        jobs = {job["spec"]["template"]["spec"]["containers"][0]["name"]: job for job in of(documents, "Job")}
        collector = of(documents, "StatefulSet")[0]["spec"]["template"]["spec"]

        def container(spec, database=url):
            return Container(binary, documents, spec, folder, database)

        container(jobs["migrate"]["spec"]["template"]["spec"]).ends_well()
        assert rows(url, "SELECT count(*) FROM telemetry_events") == ["0"], "the migration made no table"
        with Instance(container(collector, AWAY)) as instance:
            for number in range(EVENTS):
                event = {"correlationId": f"order-{number}", "integration": "shop", "eventType": "order.created"}
                asked(f"{instance.url}/ingest", json.dumps(event).encode())
        drain = container(jobs["drain"]["spec"]["template"]["spec"])
        drain.ends_well()
        assert rows(url, "SELECT count(DISTINCT correlation_id) || '/' || count(*) FROM telemetry_events") == [f"{EVENTS}/{EVENTS}"]
        said = rows(url, "SELECT collector || ':' || (released IS NOT NULL) FROM ingest_streams")
        assert said == ["telemetry/data-shop-ruvvector-service-1:true"], f"the database still waits for it: {said}"
        # Once more, as after an upgrade with the claim still named: there is nothing, and that is well.
        drain.ends_well()
        (test,) = of(documents, "Pod")
        with Instance(container(collector)) as instance:
            (endpoint,) = of(documents, "ServiceMonitor")[0]["spec"]["endpoints"]
            assert b"ruvvector_queue_events" in asked(instance.url + endpoint["path"])
            asking = container(test["spec"])
            asking.command = [part.replace("http://shop-ruvvector-service:3100", instance.url) for part in asking.command]
            assert instance.url in asking.command[-1] and "ready" in asking.ends_well()
    print("the Jobs migrate and drain, the probes answer, and so does `helm test`")


if __name__ == "__main__":
    main()
