"""The dashboards as the checks see them: read once, walked in one way.

Invariant: every panel and every query of every dashboard passes through here, so no check can miss one.
"""

import json
import re
from pathlib import Path

DIRECTORY = Path(__file__).parents[2] / "dashboards"
PROMETHEUS, POSTGRES = "prometheus", "postgres"
# `name{`, `name[` or a bare `name` of the service's: what a PromQL expression reads, with the matchers in braces.
SELECTOR = re.compile(r"\b((?:ruvvector|process|http_server|rpc_server)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def boards():
    """Every dashboard by the name of its file."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))}
    assert found, f"no dashboards in {DIRECTORY}"
    return found


def panels(board):
    """Every panel that shows data: not the rows, but what a closed row holds."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def variables(board):
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def queries(kind, field):
    """`(where, panel, query text)` of every panel's query of one kind of data source."""
    for name, board in boards().items():
        for panel in panels(board):
            if panel["datasource"]["type"] == kind:
                for target in panel["targets"]:
                    yield f"{name}: {panel['title']} ({target['refId']})", panel, target[field]


def selectors(expression):
    """`(metric, [(label, operator, value)])` of everything that a PromQL expression reads."""
    return [(name, MATCHER.findall(matchers)) for name, matchers in SELECTOR.findall(expression)]
