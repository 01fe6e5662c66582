"""Reads every dashboard through Grafana's typed models of one version, and checks that the models keep every field.

    target/dashboards/grafana-11/bin/python -m tests.dashboards.models

The models drop a field that they do not know, misspelt or of another version. Grafana would ignore it silently.

Invariant: every field of our JSON leaves the models with its value; the models may only add their defaults.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.dashboards.boards import boards


def lost(ours, theirs, path):
    """Yields each field of `ours` that `theirs` lacks or changes."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from lost(value, theirs[key], f"{path}.{key}")
            else:
                yield f"{path}.{key} is not known"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (mine, other) in enumerate(zip(ours, theirs)):
            yield from lost(mine, other, f"{path}[{index}]")
    elif ours != theirs:
        yield f"{path}: {ours!r} is read as {theirs!r}"


def check(board):
    return lost(board, json.loads(JSONEncoder().encode(Dashboard.from_json(board))), "")


register_default_plugins()
if __name__ == "__main__":
    version = Path(sys.prefix).name
    if problems := [f"{name}{problem}" for name, board in boards().items() for problem in check(board)]:
        sys.exit(f"Grafana's models ({version}):\n" + "\n".join(problems))
    print(f"read by Grafana's models ({version})")
