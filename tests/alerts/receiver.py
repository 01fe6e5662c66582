"""A real Alertmanager with the inhibitions of `alerts/`, and the receiver of its notifications.

Invariant: every notification is kept, in order; Alertmanager sends each alert separately, so no group hides one.
"""

import contextlib
import json

import yaml

from tests.common.ports import free_address
from tests.common.promql import ALERTS
from tests.common.servers import QuietHandler, http_server, unprivileged


@contextlib.contextmanager
def receiver():
    """Yields the receiver's URL and its list of notifications: (alert, instance or None, severity, status)."""
    notifications = []

    class Handler(QuietHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            for alert in body["alerts"]:
                labels = alert["labels"]
                notifications.append((labels["alertname"], labels.get("instance"), labels["severity"], alert["status"]))
            self.send_response(200)
            self.end_headers()

    with http_server(Handler) as address:
        yield f"http://{address}", notifications


def configuration(url, factor):
    """Returns an operator's usual configuration, its waits (30 s, 5 min, 4 h) divided."""
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
    """Runs an Alertmanager that notifies `url`; yields its address."""
    files = {"alertmanager.yml": json.dumps(configuration(url, factor))}
    flags = ["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="]
    return unprivileged(program, files, flags, free_address())
