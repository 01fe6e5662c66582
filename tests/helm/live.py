"""Runs the real binary as each pod of the chart does, with the pod's arguments and variables, on a real PostgreSQL.

    scripts/with-postgres.sh python3 -m tests.helm.live HELM BINARY

The migration's Job creates the schema. An instance accepts events while the database is unreachable, and is killed. The Job for
its claim, which drain.claims names, writes these events. The pod of `helm test` queries another instance.
"""

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from tests.common.ports import free_port
from tests.common.postgres import Database, cluster_url, with_database
from tests.common.programs import RUN_SECONDS, until
from tests.common.servers import ask
from tests.helm.chart import render
from tests.helm.promises import of

EVENTS = 25
TOKEN = "a-token"
AWAY = "postgres://ruvvector:secret@127.0.0.1:1/telemetry"


class Container:
    """A container of the chart, run on this machine; its volume and its settings file are in `folder`."""

    def __init__(self, binary, documents, spec, folder, url):
        (container,) = spec["containers"]
        config = next(d for d in documents if d["kind"] == "ConfigMap" and "ruvvector.toml" in d["data"])
        (folder / "ruvvector.toml").write_text(config["data"]["ruvvector.toml"])
        # Values that a cluster sets.
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
        output, _ = process.communicate(timeout=RUN_SECONDS)
        assert process.returncode == 0, f"{self.command[1:]} ends with {process.returncode}: {output}"
        return output


def answer(url, body=None):
    """Returns the text of a successful answer. Only events are sent with the token, as probes and Prometheus have none."""
    status, text = ask(url, body, {"Authorization": f"Bearer {TOKEN}"} if body else None)
    assert status == 200, f"{url}: {status} {text}"
    return text


class Instance:
    """The StatefulSet's container on free ports, once the chart's probes find it ready."""

    def __init__(self, container):
        main, http, grpc = free_port(), free_port(), free_port()
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
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            until(f"{probe} succeeds", functools.partial(self.passed, probe))

    def passed(self, probe):
        status, text = ask(self.url + self.container.spec[probe]["httpGet"]["path"])
        assert status in (0, 200, 503) and self.process.poll() is None, f"{probe}: {status} {text}"
        return True if status == 200 else None

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def main():
    helm, binary = sys.argv[1:]
    Database(cluster_url()).run("CREATE DATABASE chart")
    url = with_database(cluster_url(), "chart")
    database = Database(url)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        values = {"store": "postgres", "database": {"url": url}, "migration": {"enabled": True}}
        values |= {"auth": {"tokens": [TOKEN]}, "settings": {"batch_rows": 500}}
        values |= {"serviceMonitor": {"enabled": True}, "drain": {"claims": ["data-shop-ruvvector-service-1"]}}
        (folder / "values.yaml").write_text(yaml.safe_dump(values))
        documents = render(helm, "shop", "--values", folder / "values.yaml")
        jobs = {job["spec"]["template"]["spec"]["containers"][0]["name"]: job for job in of(documents, "Job")}
        collector = of(documents, "StatefulSet")[0]["spec"]["template"]["spec"]

        def container(spec, database_url=url):
            return Container(binary, documents, spec, folder, database_url)

        container(jobs["migrate"]["spec"]["template"]["spec"]).ends_well()
        assert database.run("SELECT count(*) FROM telemetry_events") == "0", "the migration created no table"
        with Instance(container(collector, AWAY)) as instance:
            for number in range(EVENTS):
                event = {"correlationId": f"order-{number}", "integration": "shop", "eventType": "order.created"}
                answer(f"{instance.url}/ingest", json.dumps(event).encode())
        drain = container(jobs["drain"]["spec"]["template"]["spec"])
        drain.ends_well()
        stored = database.run("SELECT count(DISTINCT correlation_id) || '/' || count(*) FROM telemetry_events")
        assert stored == f"{EVENTS}/{EVENTS}", stored
        streams = database.run("SELECT collector || ':' || (released IS NOT NULL) FROM ingest_streams")
        assert streams == "telemetry/data-shop-ruvvector-service-1:true", f"the database still waits for it: {streams}"
        # An upgrade that still names the claim runs the Job again: it finds nothing, and succeeds.
        drain.ends_well()
        (test,) = of(documents, "Pod")
        with Instance(container(collector)) as instance:
            (endpoint,) = of(documents, "ServiceMonitor")[0]["spec"]["endpoints"]
            assert "ruvvector_queue_events" in answer(instance.url + endpoint["path"])
            asking = container(test["spec"])
            asking.command = [part.replace("http://shop-ruvvector-service:3100", instance.url) for part in asking.command]
            assert instance.url in asking.command[-1] and "ready" in asking.ends_well()
    print("the Jobs migrate and drain, the probes answer, and so does `helm test`")


if __name__ == "__main__":
    main()
