"""A real Alertmanager with the inhibitions of `alerts/`, and the one whom it notifies.

Invariant: every notification is kept as it came, in order; each alert is told of by itself, so none hides in a group.
"""

import contextlib
import http.server
import json
import threading

import yaml

from faster import ALERTS
from servers import free_address, unprivileged


@contextlib.contextmanager
def receiver():
    """Its address, and the list that notifications are added to: (alert, instance or None, severity, status)."""
    told = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            for alert in body["alerts"]:
                labels = alert["labels"]
                told.append((labels["alertname"], labels.get("instance"), labels["severity"], alert["status"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", told
    finally:
        server.shutdown()
        server.server_close()


def configuration(url, factor):
    """What an operator's would be, its waits (30 s, 5 min, 4 h) divided."""
    return {
        "global": {"resolve_timeout": f"{round(300_000 / factor)}ms"},
        "route": {
            "receiver": "people",
            "group_by": ["..."],
            "group_wait": f"{round(30_000 / factor)}ms",
            "group_interval": f"{round(300_000 / factor)}ms",
            "repeat_interval": f"{round(4 * 3_600_000 / factor)}ms",
        },
        "receivers": [{"name": "people", "webhook_configs": [{"url": url, "send_resolved": True}]}],
        **yaml.safe_load((ALERTS / "alertmanager-inhibitions.yml").read_text()),
    }


def alertmanager(program, url, factor):
    """The address of one that notifies `url`."""
    files = {"alertmanager.yml": json.dumps(configuration(url, factor))}
    flags = ["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="]
    return unprivileged(program, files, flags, free_address())
