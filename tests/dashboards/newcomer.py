"""Runs the three commands of `dashboards/README.md` unchanged, for an operator whose Prometheus and Grafana run already.

    scripts/with-postgres.sh target/dashboards/grafana-main/bin/python -m tests.dashboards.newcomer BINARY PROMETHEUS …

Prometheus is real, with the configuration of its package and with others that people write. Grafana is `grafana.py`.

Invariant: after the commands every rule is loaded and healthy, the target is up, and every expression has data.
"""

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from tests.common import ROOT, traffic
from tests.common.ports import free_address
from tests.common.postgres import Database, cluster_url
from tests.common.programs import until
from tests.common.promql import rule_files, rules_of
from tests.common.servers import NOBODY, ask, prometheus_answer, service, unprivileged
from tests.dashboards import expressions, sql
from tests.dashboards.boards import DIRECTORY, boards
from tests.dashboards.grafana import grafana

PACKAGE = Path("/etc/prometheus/prometheus.yml")
GLOBAL = "global: {evaluation_interval: 15s}\n"
CONFIGURATIONS = {
    "short": f"{GLOBAL}scrape_configs: []\n",
    "in brackets": f"{GLOBAL}rule_files: [own/*.yml]\nscrape_configs:\n- job_name: own\n  static_configs: []\n",
    "indented": f"{GLOBAL}rule_files:\n    # Ours.\n    - own/*.yml\nscrape_configs:\n    # And these.\n    - job_name: own\n",
}
RULES = len(rules_of(rule_files()))


def commands():
    """Returns the three commands, a line each."""
    text = (DIRECTORY / "README.md").read_text()
    block = re.search(r"## In three commands\n.*?```sh\n(.*?)```", text, re.DOTALL)[1].replace("\\\n", " ")
    found = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert len(found) == 3, found
    return found


def shell(command):
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def put(command, places):
    for written, here in places.items():
        assert written in command, f"{command!r} has no {written}"
        command = command.replace(written, here)
    return command


def check_prometheus(program, configuration, listeners, rounds):
    """Runs the first two commands, twice; the second time must change nothing."""
    main = listeners["main"].removeprefix("http://")
    with tempfile.TemporaryDirectory(prefix="ruvvector-newcomer-") as directory, contextlib.ExitStack() as stack:
        os.chmod(directory, 0o755)
        path = Path(directory) / "prometheus.yml"
        path.write_text(configuration)
        own = free_address()
        flags = [f"--config.file={path}", "--storage.tsdb.path=data", "--web.enable-lifecycle"]
        address = stack.enter_context(unprivileged(program, {}, flags, own))
        add, reload, _ = commands()
        add = put(add, {"sudo ": "", str(PACKAGE): str(path), "127.0.0.1:3100": main})
        assert reload.startswith("sudo systemctl reload prometheus"), reload
        shell(add)
        text = path.read_text()
        was, now = yaml.safe_load(configuration), yaml.safe_load(text)
        assert path.with_name("prometheus.yml.before-ruvvector").read_text() == configuration
        assert not set(configuration.split()) - set(text.split()) - {"[]", "[own/*.yml]"}, text
        for key in ["rule_files", "scrape_configs"]:
            rest = [each for each in now[key] if "ruvvector" not in str(each)]
            assert rest == (was.get(key) or []), f"{key} were {was.get(key)} and are {rest}"
        shell(add)
        assert path.read_text() == text, "the second time changed it"
        # Only the scrape interval is the test's own.
        path.write_text(text.replace("15s", "1s"))
        status, answer = ask(f"{address}/-/reload", b"")
        assert status == 200, answer

        def healthy():
            rules = rules_of({"loaded": prometheus_answer(address, "rules")})
            assert not [rule for rule in rules if rule["health"] == "err"], rules
            return True if [rule["health"] for rule in rules] == ["ok"] * RULES else None

        def up():
            targets = prometheus_answer(address, "targets")["activeTargets"]
            ours = [target["health"] for target in targets if target["labels"]["job"] == "ruvvector"]
            return True if ours == ["up"] else None

        until("the target is up", up)
        until("every rule is healthy", healthy)
        yield from expressions.check_data(address, listeners, rounds)


def check_refusal():
    """A configuration that promtool refuses stays unchanged."""
    with tempfile.TemporaryDirectory(prefix="ruvvector-newcomer-") as directory:
        path = Path(directory) / "prometheus.yml"
        path.write_text("scrape_configs:\n  - no_such_key: 1\n")
        done = subprocess.run(
            ["python3", "scripts/operate/add_to_prometheus.py", path, "127.0.0.1:1"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 1 and "no_such_key" in done.stderr, done
        assert path.read_text() == "scrape_configs:\n  - no_such_key: 1\n"


def check_grafana(url):
    """Runs the third command, twice: it adds all dashboards, and the data sources of the provisioning files."""
    with grafana() as (address, stub):
        places = {"admin:PASSWORD@127.0.0.1:3000": f"admin:a%20secret%2F@{address}"}
        database = re.search(r"@([^@]*)$", url)[1]
        places |= {"grafana:PASSWORD@127.0.0.1:5432/telemetry": f"grafana:p%40ss@{database}"}
        command = put(commands()[2], places)
        for _ in range(2):
            shell(command)
        assert stub.dashboards == {board["uid"]: board for board in boards().values()}
        files = {each["uid"]: each for each in yaml.safe_load((DIRECTORY / "provisioning/datasources/ruvvector.yml").read_text())["datasources"]}
        host, port, name = re.fullmatch(r"(.*):(\d+)/(.*)", database).groups()
        values = {"PROMETHEUS_URL": "http://127.0.0.1:9090", "POSTGRES_HOST": host, "POSTGRES_PORT": port, "POSTGRES_DB": name}
        values |= {"POSTGRES_USER": "grafana", "POSTGRES_SSLMODE": "disable", "POSTGRES_PASSWORD": "p@ss"}
        for uid, source in stub.sources.items():
            wanted = yaml.safe_load(re.sub(r"\$(\w+)", lambda found: values[found[1]], yaml.safe_dump(files.pop(uid))))
            assert source == wanted, f"{source}\nis not what is provisioned:\n{wanted}"
        assert not files, files
        shell(re.sub(r"'postgres://[^']*'", "", command))
        # The role of the data source can read the table.
        Database(f"postgres://grafana@{database}").run("SELECT count(*) FROM telemetry_events")


def check_paths():
    """The commands for provisioning copy each file to the path where Grafana's packages, or our provider file, look for it."""
    text = (DIRECTORY / "README.md").read_text()
    block = re.search(r"## Provisioning\n.*?```sh\n(.*?)```", text, re.DOTALL)[1]
    with tempfile.TemporaryDirectory(prefix="ruvvector-newcomer-") as directory:
        shell(re.sub(r" (/(?:etc|var)/)", rf" {directory}\1", block))
        found = {str(path.relative_to(directory)) for path in Path(directory).rglob("*.*")}
        home = yaml.safe_load((DIRECTORY / "provisioning/dashboards/ruvvector.yml").read_text())["providers"][0]["options"]["path"]
        wanted = {f"{home.lstrip('/')}/{name}.json" for name in boards()}
        assert found == wanted | {f"etc/grafana/provisioning/{kind}/ruvvector.yml" for kind in ["dashboards", "datasources"]}


def main():
    binary, *programs = sys.argv[1:]
    url = cluster_url()
    assert os.geteuid() != NOBODY and shutil.which("promtool")
    configurations = {"of the package": PACKAGE.read_text()} if PACKAGE.exists() else {}
    problems, rounds = [], itertools.count(1)
    with service(binary, url) as listeners:
        traffic.trace(listeners["main"])
        sql.create_documented_role(Database(url))
        for (name, text), program in zip({**configurations, **CONFIGURATIONS}.items(), itertools.cycle(programs)):
            problems += [f"configuration {name}: {each}" for each in check_prometheus(program, text, listeners, rounds)]
        check_grafana(url)
    check_refusal()
    check_paths()
    if problems:
        sys.exit("\n".join(problems))
    print("three commands fill every panel and load every rule")


main()
