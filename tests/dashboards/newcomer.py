"""The three commands of `dashboards/README.md`, as they stand there, by one who has a Prometheus and a Grafana already.

    scripts/with-postgres.sh python3 tests/dashboards/newcomer.py BINARY PROMETHEUS …

Prometheus is real, and its configuration is what each comes with: the package's, and others that people write. Grafana
is `grafana.py`.

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

import load
import promql
import sql
import yaml
from boards import DIRECTORY, boards
from grafana import grafana
from servers import NOBODY, free_address, prometheus_answer, service, unprivileged, until

ROOT = DIRECTORY.parent
PACKAGE = Path("/etc/prometheus/prometheus.yml")
GLOBAL = "global: {evaluation_interval: 15s}\n"
CONFIGURATIONS = {
    "short": f"{GLOBAL}scrape_configs: []\n",
    "in brackets": f"{GLOBAL}rule_files: [own/*.yml]\nscrape_configs:\n- job_name: own\n  static_configs: []\n",
    "indented": f"{GLOBAL}rule_files:\n    # Ours.\n    - own/*.yml\nscrape_configs:\n    # And these.\n    - job_name: own\n",
}
RULES = sum(len(group["rules"]) for group in yaml.safe_load((ROOT / "alerts/ruvvector.rules.yml").read_text())["groups"])


def commands():
    """The three, a line each."""
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


def rules_of(address):
    groups = prometheus_answer(address, "rules")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check_prometheus(program, configuration, listeners, rounds):
    """The first two commands, twice: the second time changes nothing."""
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
            assert rest == (was.get(key) or []), f"{key} were {was.get(key)}, and are {rest}"
        shell(add)
        assert path.read_text() == text, "the second time changed it"
        # Its pace is the test's; what is loaded is not.
        path.write_text(text.replace("15s", "1s"))
        status, answer = promql.ask(f"{address}/-/reload", b"")
        assert status == 200, answer

        def healthy():
            rules = rules_of(address)
            assert not [rule for rule in rules if rule["health"] == "err"], rules
            return True if [rule["health"] for rule in rules] == ["ok"] * RULES else None

        def up():
            targets = prometheus_answer(address, "targets")["activeTargets"]
            ours = [target["health"] for target in targets if target["labels"]["job"] == "ruvvector"]
            return True if ours == ["up"] else None

        until("the target is up", up)
        until("every rule is healthy", healthy)
        yield from promql.check_data(address, listeners, rounds)


def check_refusal():
    """A configuration that promtool does not take stays as it was."""
    with tempfile.TemporaryDirectory(prefix="ruvvector-newcomer-") as directory:
        path = Path(directory) / "prometheus.yml"
        path.write_text("scrape_configs:\n  - no_such_key: 1\n")
        done = subprocess.run(
            ["python3", "scripts/operate/add_to_prometheus.py", path, "127.0.0.1:1"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 1 and "no_such_key" in done.stderr, done
        assert path.read_text() == "scrape_configs:\n  - no_such_key: 1\n"


def check_grafana(url):
    """The third command, twice: all dashboards, and the data sources that the provisioning files have too."""
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
        # What the data source names is there to be read.
        sql.Database(f"postgres://grafana@{database}").run("SELECT count(*) FROM telemetry_events")


def check_paths():
    """The provisioning's commands copy to where Grafana's own packages look, and the dashboards to where their file says."""
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
    url = os.environ["RUVVECTOR_TEST_POSTGRES_URL"]
    assert os.geteuid() != NOBODY and shutil.which("promtool")
    configurations = {"of the package": PACKAGE.read_text()} if PACKAGE.exists() else {}
    problems, rounds = [], itertools.count(1)
    with service(binary, url) as listeners:
        load.trace(listeners["main"])
        sql.Database(url).make_documented_role()
        for (name, text), program in zip({**configurations, **CONFIGURATIONS}.items(), itertools.cycle(programs)):
            problems += [f"configuration {name}: {each}" for each in check_prometheus(program, text, listeners, rounds)]
        check_grafana(url)
    check_refusal()
    check_paths()
    if problems:
        sys.exit("\n".join(problems))
    print("three commands fill every panel and load every rule")


main()
