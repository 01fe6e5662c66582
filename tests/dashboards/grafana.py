"""A stand-in for the part of Grafana's HTTP API that `scripts/operate/add_to_grafana.py` uses.

It checks each body by Grafana's typed models and by the documented fields, and so refuses a body that Grafana would refuse or
read differently.

Invariant: an answer is 200 only for a documented request; an accepted body is kept unchanged.
"""

import base64
import contextlib
import json

from tests.common.servers import QuietHandler, http_server
from tests.dashboards.models import check

USER = "Basic " + base64.b64encode(b"admin:a secret/").decode()
SOURCE = {"name", "uid", "type", "access", "url"}
SOURCE_MORE = {"user", "database", "basicAuth", "isDefault", "jsonData", "secureJsonData"}


class Refused(Exception):
    pass


def need(condition, status, text):
    if not condition:
        raise Refused(status, text)


class Stub:
    def __init__(self):
        self.sources, self.folders, self.dashboards = {}, {}, {}

    def answer(self, method, path, value):
        match [method, *path.strip("/").split("/")]:
            case ["GET", "api", "datasources", "uid", uid]:
                need(uid in self.sources, 404, "data source not found")
            case ["POST", "api", "datasources"]:
                need(value["name"] not in [each["name"] for each in self.sources.values()], 409, "the name is taken")
                need(value["uid"] not in self.sources, 409, "the uid is taken")
                self.keep_source(value)
            case ["PUT", "api", "datasources", "uid", uid]:
                need(uid in self.sources and value["uid"] == uid, 404, "data source not found")
                self.keep_source(value)
            case ["GET", "api", "folders", uid]:
                need(uid in self.folders, 404, "folder not found")
            case ["POST", "api", "folders"]:
                need(set(value) == {"uid", "title"} and value["uid"] not in self.folders, 412, "the folder exists already, or is none")
                self.folders[value["uid"]] = value
            case ["POST", "api", "dashboards", "db"]:
                self.keep_dashboard(value)
            case _:
                raise Refused(404, f"{method} {path}")

    def keep_source(self, value):
        need(SOURCE <= set(value) <= SOURCE | SOURCE_MORE, 400, f"fields {sorted(value)}")
        self.sources[value["uid"]] = value

    def keep_dashboard(self, value):
        need(set(value) <= {"dashboard", "folderUid", "message", "overwrite"}, 400, f"fields {sorted(value)}")
        board = value["dashboard"]
        need(value.get("folderUid") in self.folders, 400, "folder not found")
        need(board.get("title") and board.get("id", 0) is None, 400, "has no title, or has an id")
        need(board["uid"] not in self.dashboards or value.get("overwrite") is True, 412, "the dashboard exists already")
        known = {key: field for key, field in board.items() if key != "id"}
        need(not (lost := list(check(known))), 400, f"read differently: {lost}")
        self.dashboards[board["uid"]] = known


@contextlib.contextmanager
def grafana():
    """Runs the stand-in; yields its address and the stub, which keeps all that it accepted."""
    stub = Stub()

    class Handler(QuietHandler):
        def respond(self):
            try:
                need(self.headers["authorization"] == USER, 401, "not authorized")
                length = int(self.headers.get("content-length", 0))
                need(not length or self.headers["content-type"] == "application/json", 400, "no JSON")
                stub.answer(self.command, self.path, json.loads(self.rfile.read(length) or "null"))
                status, text = 200, "accepted"
            except Refused as refused:
                status, text = refused.args
            body = json.dumps({"message": text}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = respond

    with http_server(Handler) as address:
        yield address, stub
