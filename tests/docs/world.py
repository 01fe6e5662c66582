"""The surroundings of one document: a directory, a database, the service, and the names that replace those in its text.

Invariant: nothing outside the directory is written, and all of it is removed after the document.
"""

import json
import os
import re
import shutil
import tempfile
import time
import urllib.parse

from tests.common.ports import free_port
from tests.common.postgres import Database, with_database
from tests.common.programs import until
from tests.common.servers import ask, process

PORTS = {"3100": "RUVVECTOR_SERVICE_PORT", "4318": "RUVVECTOR_OTLP_HTTP_PORT", "4317": "RUVVECTOR_OTLP_GRPC_PORT"}
# Time in which the service creates its tables and writes a batch.
SETTLE_SECONDS = 10
SMALL = {
    **{"RUVVECTOR_JOURNAL_MAX_BYTES": "256MiB", "RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES": "16MiB"},
    **{"RUVVECTOR_MAINTENANCE_INTERVAL": "1s"},
}
# `curl` as documents call it; in addition, an error answer is an error.
CURL = """#!/bin/bash
for word in "$@"; do
    case $word in
    --fail | --fail-with-body) exec "{curl}" "$@" ;;
    -[a-zA-Z]*) [[ $word =~ ^-[sSkLivgGIN#]*f ]] && exec "{curl}" "$@" ;;
    esac
done
exec "{curl}" --no-progress-meter --fail-with-body "$@"
"""
BINARY = """#!/bin/sh
{ports}
exec "{binary}" "$@"
"""
CARGO = """#!/bin/bash
[ "$1" = run ] || {{ echo "cargo $1: the documentation's test has no compiler" >&2; exit 2; }}
shift
while [ $# -gt 0 ]; do
    case $1 in
    --release | --quiet) shift ;;
    --) shift; break ;;
    *) echo "cargo run $1: not known to the documentation's test" >&2; exit 2 ;;
    esac
done
exec ruvvector-service "$@"
"""


class World:
    """Holds what a document's blocks run in, for a `with` block; `start` starts the service at the first block that runs."""

    def __init__(self, document, tools, number):
        self.document, self.tools = document, tools
        self.directory = tempfile.mkdtemp(prefix="ruvvector-docs-")
        self.database = f"docs_{number}"
        self.url = with_database(tools.postgres, self.database)
        self.admin = Database(tools.postgres).run
        self.data = f"{self.directory}/data"
        self.sqlite = "sqlite" in document.world
        self.alone = "none" in document.world
        self.settings = dict(one.split("=", 1) for one in document.world if "=" in one)
        every = "\n".join(block.text for block in document.blocks)
        named = {*PORTS, *re.findall(r"(?:127\.0\.0\.1|localhost|\[::1\]):(\d{4,5})\b", every)} - {"9090", "5432"}
        self.ports = {port: free_port() for port in sorted(named)} | {"9090": tools.prometheus_port}
        self.roles = set(re.findall(r"(?i)\bCREATE (?:ROLE|USER) (\w+)", every))
        self.running = None
        self.started = self.settled = False

    def __enter__(self):
        for name in os.listdir(self.tools.copy):
            os.symlink(f"{self.tools.copy}/{name}", f"{self.directory}/{name}")
        os.symlink(f"{self.tools.root}/target", f"{self.directory}/target")
        # Node.js looks for packages beside the program.
        os.symlink(f"{self.tools.root}/target/sdk/javascript/node_modules", f"{self.directory}/node_modules")
        path = f"{self.directory}/.path"
        os.mkdir(path)
        ports = "\n".join(f': "${{{name}={self.ports[port]}}}"; export {name}' for port, name in PORTS.items())
        self.program("ruvvector-service", BINARY.format(ports=ports, binary=self.tools.binary))
        self.program("cargo", CARGO.format())
        self.program("curl", CURL.format(curl=shutil.which("curl")))
        for name, program in [("python", self.tools.python), ("python3", self.tools.python), ("node", self.tools.node)]:
            self.program(name, f'#!/bin/sh\nexec "{program}" "$@"\n')
        return self

    def __exit__(self, *_):
        if self.running:
            self.running.__exit__(None, None, None)
        if self.started and self.roles:
            # A role belongs to the whole server and can be dropped only after its objects.
            self.admin(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
            for role in self.roles:
                self.admin(f'DROP ROLE IF EXISTS "{role}"')
        shutil.rmtree(self.directory, ignore_errors=True)

    def program(self, name, text):
        with open(f"{self.directory}/.path/{name}", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(file.name, 0o755)

    def start(self):
        """Creates the database and starts the service, unless the document starts it itself."""
        if self.started:
            return
        self.started = True
        self.admin(f'CREATE DATABASE "{self.database}"')
        # As in the deployment guide: only a role with the right to connect may connect.
        self.admin(f'REVOKE CONNECT, TEMPORARY ON DATABASE "{self.database}" FROM PUBLIC')
        if not self.alone:
            store = (
                {"RUVVECTOR_STORE": "sqlite"} if self.sqlite else {"RUVVECTOR_STORE": "postgres", "DATABASE_URL": self.url}
            )
            ports = {name: self.ports[port] for port, name in PORTS.items()}
            settings = {**SMALL, **store, "RUVVECTOR_DATA_DIR": self.data, **ports, **self.settings}
            os.mkdir(f"{self.directory}/.service")
            self.running = process(self.tools.binary, f"{self.directory}/.service", **settings)
            self.running.__enter__()

    @property
    def main(self):
        return f"127.0.0.1:{self.ports['3100']}"

    @property
    def environment(self):
        """Returns the environment of commands: of the machine's own variables, only those that locate programs."""
        inherited = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        own = {
            "PATH": f"{self.directory}/.path:{os.environ['PATH']}",
            "HOME": self.directory,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.ports['4318']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return inherited | own | ({} if self.alone or self.sqlite else {"DATABASE_URL": self.url})

    def put(self, text):
        """Returns the text with this document's ports, database and directory instead of those that it names."""

        def database(found):
            user = urllib.parse.urlsplit(found[0]).username
            host = urllib.parse.urlsplit(self.url)
            return self.url.replace(host.netloc, f"{user}@{host.hostname}:{host.port}") if user in self.roles else self.url

        text = re.sub(r"\bON DATABASE telemetry\b", f'ON DATABASE "{self.database}"', text)
        text = re.sub(r"postgres(?:ql)?://[^\s\"'`,;|\\)]+", database, text)
        for port, ours in self.ports.items():
            # Leaves numbers within the database's URL, a time or another number.
            text = re.sub(rf"(?<![\d.\w]){port}(?![\d\w]|\.\d)", f"\0{ours}\0", text)
        text = text.replace("\0", "")
        for name in ("ADDRESS_THAT_CLIENTS_USE", "INSTANCE"):
            text = re.sub(rf"(?<!\w){name}(?!\w)", self.main, text)
        return re.sub(r"(?<![\w$])DATA_DIR(?!\w)", self.data, text)

    def settle(self):
        """Waits until all accepted events are stored and readable, or for `SETTLE_SECONDS` if the service cannot store them."""
        give_up = time.monotonic() + SETTLE_SECONDS

        def stored():
            status, text = ask(f"http://{self.main}/health")
            if status not in (200, 503) or time.monotonic() > give_up:
                return True
            health = json.loads(text)
            # 401 means that a reader needs a token; the schema cannot be checked then.
            ready = health["database"]["connected"] and ask(f"http://{self.main}/query?limit=1")[0] in (200, 401)
            return True if ready and health["queue"]["events"] == 0 else None

        def set_up():
            status, text = ask(f"http://{self.main}/metrics")
            ready = status != 200 or re.search(r"^ruvvector_partitions_ahead_days [1-9]", text, re.MULTILINE)
            return True if ready or time.monotonic() > give_up else None

        if self.started:
            until("all events are stored", stored)
            # A GRANT while maintenance creates the first partitions can fail: "tuple concurrently updated".
            if not self.sqlite and not self.settled:
                until("the days ahead have partitions", set_up)
            self.settled = True
