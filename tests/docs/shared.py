"""What all documents share: the binary, a Prometheus, and what there is to be named.

Invariant: the page of `/metrics` is that of a real service to which everything has happened, as what never happened has no
series.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import tempfile
import threading
from dataclasses import dataclass

import alert_rules
import load
from references import Lookup, tree
from servers import ask, prometheus, scrape, service, until

ROOT = os.path.abspath(f"{os.path.dirname(__file__)}/../..")


@dataclass
class Tools:
    """What all documents share."""

    root: str
    # The project's files, which blocks may write to.
    copy: str
    binary: str
    python: str
    node: str
    postgres: str
    prometheus: str
    targets: "Targets"
    lookup: Lookup
    series: dict
    recorded: dict

    @property
    def prometheus_port(self):
        return self.prometheus.rsplit(":", 1)[-1]


class Targets:
    """What Prometheus scrapes: the services of all documents that are under way."""

    def __init__(self, path):
        self.path, self.addresses, self.lock = path, set(), threading.Lock()
        self.write()

    def configuration(self, always):
        return {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["*.rules.yml"],
            "scrape_configs": [
                # https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
                {**scrape("ruvvector", always), "file_sd_configs": [{"files": [self.path], "refresh_interval": "1s"}]}
            ],
        }

    def write(self):
        with open(f"{self.path}.new", "w", encoding="utf-8") as file:
            json.dump([{"targets": sorted(self.addresses)}], file)
        os.rename(file.name, self.path)

    @contextlib.contextmanager
    def scraped(self, address):
        with self.lock:
            self.addresses.add(address)
            self.write()
        yield
        with self.lock:
            self.addresses.remove(address)
            self.write()


@contextlib.contextmanager
def everything(binary, postgres):
    """The tools of all documents: a service that everything happened to, and a Prometheus that scrapes it."""
    rules = sorted(f"{ROOT}/alerts/{name}" for name in os.listdir(f"{ROOT}/alerts") if name.endswith(".rules.yml"))
    recorded = {
        rule["record"]: alert_rules.TARGET_LABELS
        for path in rules
        for group in alert_rules.load(path)["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    python = f"{ROOT}/target/sdk/python/venv/bin/python"
    node = f"{ROOT}/target/sdk/javascript/node"
    for program, script in [(python, "python"), (node, "javascript")]:
        assert os.path.exists(program), f"{program} is missing: install it with scripts/tools/sdk/{script}.sh"
    with contextlib.ExitStack() as later:
        directory = later.enter_context(tempfile.TemporaryDirectory(prefix="ruvvector-docs-all-"))
        os.chmod(directory, 0o755)
        targets = Targets(f"{directory}/targets.json")
        copy = f"{directory}/tree"
        for path in tree(ROOT):
            os.makedirs(os.path.dirname(f"{copy}/{path}"), exist_ok=True)
            shutil.copy(f"{ROOT}/{path}", f"{copy}/{path}")
        listeners = later.enter_context(service(binary, postgres))
        files = {os.path.basename(path): open(path, encoding="utf-8").read() for path in rules}
        address = later.enter_context(prometheus(targets.configuration(listeners["main"]), files=files))
        load.trace(listeners["main"])
        rounds = itertools.count(1)

        def page():
            load.round_of(listeners, next(rounds))
            status, text = ask(listeners["main"] + "/metrics")
            assert status == 200, text
            # First told by the upkeep, which comes a moment after the start.
            return text if re.search(r"^ruvvector_partitions_ahead_days ", text, re.MULTILINE) else None

        text = until("a page of metrics", page)
        yield Tools(
            *(ROOT, copy, binary, python, node, postgres, address, targets),
            Lookup.of(ROOT, binary, text),
            alert_rules.series_of(text),
            recorded,
        )
