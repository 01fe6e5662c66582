"""Checks compose.yaml against what it leans on, without an engine. Run by scripts/check/chart.sh.

    compose.py PROMTOOL BINARY
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from compose_spec import PyCompose

from image import Dockerfile
from strict import NoDuplicates

ROOT = Path(__file__).resolve().parents[2]


def must(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def filled(text):
    """What Compose makes of `${NAME:-default}` where the name is not set."""
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
    """Each variable that the provisioning asks for is given, and the dashboards are where it looks."""
    grafana = compose["services"]["grafana"]
    mounted = [volume.split(":")[1] for volume in grafana["volumes"]]
    for file in (ROOT / "dashboards/provisioning").rglob("*.y*ml"):
        values = json.dumps(yaml.safe_load(file.read_text()))
        asked = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", values))
        assert asked <= grafana["environment"].keys(), f"{file}: {asked - grafana['environment'].keys()} not given"
        for provider in yaml.safe_load(file.read_text()).get("providers", []):
            assert provider["options"]["path"] in mounted, f"{provider['options']['path']} is not mounted"


def check_service(compose, binary):
    """The service keeps its data, holds no rights, has time to stop, and reads its environment without a complaint."""
    service = compose["services"]["ruvvector-service"]
    image = Dockerfile((ROOT / "Dockerfile").read_text())
    environment = image.environment() | service["environment"]
    mounted = dict(reversed(volume.split(":")[:2]) for volume in service["volumes"])
    assert mounted[environment["RUVVECTOR_DATA_DIR"]] in compose["volumes"], "the journal is not on a volume"
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"]
    assert "no-new-privileges:true" in service["security_opt"]
    # Where nothing overrides it, the image's own healthcheck is Compose's, too.
    assert "healthcheck" not in service and image.one(image.image, "HEALTHCHECK")
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: filled(value) for name, value in environment.items()} | {"RUVVECTOR_DATA_DIR": folder}
        said = must(binary, "validate", env=environment, cwd=folder)
    assert "warning" not in said.lower(), said
    taken = [int(re.search(rf"{name}\W+(\d+)s\b", said)[1]) for name in ("shutdown_delay", "shutdown_grace")]
    assert sum(taken) < int(service["stop_grace_period"].removesuffix("s")), f"a stop takes {taken}"
    postgres = compose["services"]["postgres"]
    same = {name: service["environment"][name] for name in ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB")}
    assert postgres["environment"].items() >= same.items() and service["environment"]["POSTGRES_HOST"] == "postgres"


def main():
    promtool, binary = sys.argv[1:]
    text = (ROOT / "compose.yaml").read_text()
    # Every key and value by the Compose specification.
    PyCompose.from_yaml(text)
    compose = yaml.load(text, NoDuplicates)
    check_services(compose)
    check_prometheus(compose, promtool)
    check_grafana(compose)
    check_service(compose, binary)
    print(f"compose.yaml: {', '.join(compose['services'])}")


if __name__ == "__main__":
    main()
