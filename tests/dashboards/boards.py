"""Reads the dashboards and walks their panels, variables and queries.

Invariant: every panel and every query of every dashboard is reached from here, so no check can miss one.
"""

import json

from tests.common import ROOT

DIRECTORY = ROOT / "dashboards"
PROMETHEUS, POSTGRES = "prometheus", "postgres"


def boards():
    """Returns every dashboard by the name of its file."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))}
    assert found, f"no dashboards in {DIRECTORY}"
    return found


def panels(board):
    """Yields every panel that shows data, also those inside a closed row."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def variables(board):
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def queries(kind, field):
    """Yields `(where, panel, query text)` for every panel's query to one kind of data source."""
    for name, board in boards().items():
        for panel in panels(board):
            if panel["datasource"]["type"] == kind:
                for target in panel["targets"]:
                    yield f"{name}: {panel['title']} ({target['refId']})", panel, target[field]
