"""Checks that the README's table has every value of values.yaml with its default, and no other."""

import json
import re

import yaml

# Values that the table shows as a whole.
WHOLE = {"podSecurityContext", "securityContext", "resources", "updateStrategy"}
WHOLE |= {"probes.startup", "probes.liveness", "probes.readiness"}


def leaves(values, above=""):
    for key, value in values.items():
        name = above + key
        if isinstance(value, dict) and value and name not in WHOLE:
            yield from leaves(value, name + ".")
        else:
            yield name, value


def shown(value):
    """Formats a default as the table does: as JSON, or by a reference if it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else "see values.yaml"


def check_readme(chart):
    values = dict(leaves(yaml.safe_load((chart / "values.yaml").read_text())))
    rows = re.findall(r"^\| `([^`]+)` \| (?:`([^`]+)`|(see values.yaml)) \| (.+) \|$", (chart / "README.md").read_text(), re.M)
    table = {name: default or see for name, default, see, _ in rows}
    wanted = {name: shown(value) for name, value in values.items()}
    missing = [f"| `{name}` | `{default}` | … |" for name, default in wanted.items() if table.get(name) != default]
    assert not missing, "README.md lacks these rows, or has them differently:\n" + "\n".join(missing)
    assert len(rows) == len(table) and set(table) == set(wanted), f"README.md has unknown values: {set(table) - set(wanted)}"
