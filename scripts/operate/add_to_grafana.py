#!/usr/bin/env python3
"""Adds the dashboards of `dashboards/`, and the data sources that they read, to a running Grafana. For operators.

    python3 scripts/operate/add_to_grafana.py GRAFANA PROMETHEUS [POSTGRES]
    python3 scripts/operate/add_to_grafana.py http://admin:PASSWORD@127.0.0.1:3000 http://127.0.0.1:9090 \\
        'postgres://grafana:PASSWORD@127.0.0.1:5432/telemetry'

The last two addresses are those that Grafana connects to. Without POSTGRES, as with a store in SQLite, only the overview is
added. GRAFANA_TOKEN, of a service account with the role Admin, replaces a name and a password in the address. A second run
updates dashboards and data sources. Needs Python 3 and Grafana 10 or later, whose HTTP API it uses.

Invariant: it changes only objects with this project's uids, `ruvvector-…`.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

DASHBOARDS = Path(__file__).resolve().parents[2] / "dashboards"
FOLDER = {"uid": "ruvvector", "title": "RuvVector"}


def prometheus_source(url):
    return {
        "name": "RuvVector Prometheus",
        "uid": "ruvvector-prometheus",
        "type": "prometheus",
        "access": "proxy",
        "url": url,
        "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
    }


def postgres_source(url):
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql") or not parts.hostname:
        sys.exit("the third address is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE")
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    user = urllib.parse.unquote(parts.username or "postgres")
    options = dict(urllib.parse.parse_qsl(parts.query))
    return {
        "name": "RuvVector",
        "uid": "ruvvector-postgres",
        "type": "postgres",
        "access": "proxy",
        "url": f"{host}:{parts.port or 5432}",
        "user": user,
        "jsonData": {
            "database": urllib.parse.unquote(parts.path.lstrip("/")) or user,
            "sslmode": options.get("sslmode", "disable" if local else "require"),
            "postgresVersion": 1400,
            "maxOpenConns": 8,
        },
        "secureJsonData": {"password": urllib.parse.unquote(parts.password or "")},
    }


class Grafana:
    def __init__(self, address, token):
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            sys.exit("the first address is not of the form http://USER:PASSWORD@HOST:PORT")
        self.base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self.headers = {"content-type": "application/json", "accept": "application/json"}
        if token:
            self.headers["authorization"] = f"Bearer {token}"
        elif parts.username:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self.headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()

    def ask(self, method, path, value=None, expected=(200,)):
        """Returns the status, which is one of `expected`; any other answer of Grafana ends the script with its text."""
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.base + path, body, self.headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            if error.code in expected:
                return error.code
            hint = {401: "wrong name, password or token", 403: "the role Admin is required"}.get(error.code, "")
            sys.exit(f"{method} {self.base}{path}: {error.code} {hint}\n{error.read().decode(errors='replace')}")
        except OSError as error:
            sys.exit(f"Grafana at {self.base} does not answer: {error}")

    def source(self, source):
        path = f"/api/datasources/uid/{source['uid']}"
        if self.ask("GET", path, expected=(200, 404)) == 404:
            self.ask("POST", "/api/datasources", source)
        else:
            self.ask("PUT", path, source)
        print(f"data source {source['name']}: {source['url']}")

    def dashboard(self, path):
        board = {**json.loads(path.read_text()), "id": None}
        self.ask("POST", "/api/dashboards/db", {"dashboard": board, "folderUid": FOLDER["uid"], "overwrite": True})
        print(f"{board['title']}: {self.base}/d/{board['uid']}")


def kind(path):
    return next(each["query"] for each in json.loads(path.read_text())["templating"]["list"] if each["name"] == "datasource")


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sources = [prometheus_source(sys.argv[2]), *map(postgres_source, sys.argv[3:])]
    grafana = Grafana(sys.argv[1], os.environ.get("GRAFANA_TOKEN"))
    for source in sources:
        grafana.source(source)
    if grafana.ask("GET", f"/api/folders/{FOLDER['uid']}", expected=(200, 404)) == 404:
        grafana.ask("POST", "/api/folders", FOLDER)
    for path in sorted(DASHBOARDS.glob("*.json")):
        if kind(path) in {source["type"] for source in sources}:
            grafana.dashboard(path)


main()
