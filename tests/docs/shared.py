"""Tools that all documents share: the binary, a Prometheus, and the names that documents may use.

Invariant: the page of `/metrics` is that of a real service that has handled each kind of request, as others have no series.
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

from tests.common import ROOT, traffic
from tests.common.programs import until
from tests.common.promql import ALERTS, recorded_labels, rule_files, rules_of, series_of
from tests.common.servers import ask, prometheus, scrape, service
from tests.docs.references import Lookup, tree


@dataclass
class Tools:
    """Programs, servers and known names of all documents."""

    root: str
    # A copy of the project's files, which blocks may write to.
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
    """Lists the services of all documents in progress, for Prometheus to scrape."""

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
    """Yields the tools, with a service that has handled each kind of request and a Prometheus that scrapes it."""
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
        files = {name: (ALERTS / name).read_text() for name in rule_files()}
        address = later.enter_context(prometheus(targets.configuration(listeners["main"]), files=files))
        traffic.trace(listeners["main"])
        rounds = itertools.count(1)

        def page():
            traffic.round_of(listeners, next(rounds))
            status, text = ask(listeners["main"] + "/metrics")
            assert status == 200, text
            # The maintenance task sets this gauge a moment after the start.
            return text if re.search(r"^ruvvector_partitions_ahead_days ", text, re.MULTILINE) else None

        text = until("a page of metrics", page)
        yield Tools(
            *(str(ROOT), copy, binary, python, node, postgres, address, targets),
            Lookup.of(ROOT, binary, text),
            series_of(text),
            recorded_labels(rules_of(rule_files())),
        )
