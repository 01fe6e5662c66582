"""Checks compose.yaml by the files and programs that it uses, without a container engine, for `scripts/check/chart.sh`.

    python3 -m tests.helm.compose PROMTOOL BINARY
"""

import json
import re
import sys
import tempfile
from pathlib import Path

import yaml
from compose_spec import PyCompose

from tests.common import ROOT
from tests.common.programs import must, run
from tests.helm.image import Dockerfile
from tests.helm.strict import NoDuplicates


def filled(text):
    """Expands `${NAME:-default}` as Compose does if the name is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text))


def check_services(compose):
    for name, service in compose["services"].items():
        assert re.search(r":v?\d[\w.-]*$", service["image"]), f"{name}: the image's version is open"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port} is open to the network"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            there = (ROOT / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert there, f"{name}: {source} does not exist"


def check_prometheus(compose, promtool):
    text = compose["configs"]["prometheus"]["content"]
    prometheus = compose["services"]["prometheus"]
    (rules,) = [v.split(":") for v in prometheus["volumes"] if v.startswith("./alerts:")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prometheus.yml"
        file.write_text(text.replace(rules[1], str(ROOT / "alerts")))
        must(promtool, "check", "config", file)
    config = yaml.safe_load(text)
    for found in (ROOT / "alerts").glob("*rules*"):
        assert any(Path(rules[1], found.name).match(pattern) for pattern in config["rule_files"]), found
    (job,) = config["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert target.split(":")[0] in compose["services"]


def check_grafana(compose):
    """Each variable of the provisioning files is set, and their path of the dashboards is mounted."""
    grafana = compose["services"]["grafana"]
    mounted = [volume.split(":")[1] for volume in grafana["volumes"]]
    for file in (ROOT / "dashboards/provisioning").rglob("*.y*ml"):
        values = json.dumps(yaml.safe_load(file.read_text()))
        variables = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", values))
        missing = variables - grafana["environment"].keys()
        assert not missing, f"{file}: {missing} not set"
        for provider in yaml.safe_load(file.read_text()).get("providers", []):
            assert provider["options"]["path"] in mounted, f"{provider['options']['path']} is not mounted"


def check_service(compose, binary):
    """The service keeps its data, has no capabilities, has time to stop, and reads its environment without a warning."""
    service = compose["services"]["ruvvector-service"]
    image = Dockerfile((ROOT / "Dockerfile").read_text())
    environment = image.environment() | service["environment"]
    mounted = dict(reversed(volume.split(":")[:2]) for volume in service["volumes"])
    assert mounted[environment["RUVVECTOR_DATA_DIR"]] in compose["volumes"], "the journal is not on a volume"
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"]
    assert "no-new-privileges:true" in service["security_opt"]
    # Compose uses the image's health check unless the file overrides it.
    assert "healthcheck" not in service and image.one(image.image, "HEALTHCHECK")
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: filled(value) for name, value in environment.items()} | {"RUVVECTOR_DATA_DIR": folder}
        done = run(binary, "validate", env=environment, cwd=folder)
    output = done.stdout + done.stderr
    assert done.returncode == 0 and "warning" not in output.lower(), output
    stop_seconds = sum(int(re.search(rf"{name}\W+(\d+)s\b", output)[1]) for name in ("shutdown_delay", "shutdown_grace"))
    assert stop_seconds < int(service["stop_grace_period"].removesuffix("s")), f"a stop takes {stop_seconds} s"
    postgres = compose["services"]["postgres"]
    same = {name: service["environment"][name] for name in ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB")}
    assert postgres["environment"].items() >= same.items() and service["environment"]["POSTGRES_HOST"] == "postgres"


def main():
    promtool, binary = sys.argv[1:]
    text = (ROOT / "compose.yaml").read_text()
    # Checks every key and value by the Compose specification.
    PyCompose.from_yaml(text)
    compose = yaml.load(text, NoDuplicates)
    check_services(compose)
    check_prometheus(compose, promtool)
    check_grafana(compose)
    check_service(compose, binary)
    print(f"compose.yaml: {', '.join(compose['services'])}")


if __name__ == "__main__":
    main()
