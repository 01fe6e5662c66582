"""Reads every dashboard through Grafana's own typed models of one version, and looks that they keep every field.

What the models do not know, they drop: a misspelt field, or one of another version's, is an error here and would be
ignored in silence by Grafana.

Invariant: every field of our JSON comes out of the models with its value; they may only add what they default.
"""

import json
import sys

from boards import boards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(ours, theirs, path):
    """What of `ours` is not in `theirs`, a line each."""
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
    if problems := [f"{name}{problem}" for name, board in boards().items() for problem in check(board)]:
        sys.exit(f"Grafana's models ({sys.argv[1]}):\n" + "\n".join(problems))
    print(f"read by Grafana's models ({sys.argv[1]})")
