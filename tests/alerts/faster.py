"""The rules of `alerts/` with a quicker clock: minutes pass in seconds, and nothing else changes.

Invariant: what comes out differs from what stands in `alerts/` in durations alone; `check` fails on anything more.
"""

import copy
import re
from pathlib import Path

import yaml

ALERTS = Path(__file__).parents[2] / "alerts"
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
# A duration of PromQL or of a rule's `for`: `5m` and `90s`, and no part of a name (`rate5m`) or of a number.
DURATION = re.compile(r"(?<![\w.])(\d+)(ms|[smhdwy])\b")
TIMES = ("expr", "for", "keep_firing_for")
# Waiting times that stand as plain seconds, by alert. What else is in seconds is how long a disk or a pool takes.
PLAIN = {"RuvVectorQueueAge": ("> 900", "> {:g}", 900), "RuvVectorQueueFilling": ("4 * 3600", "{:g}", 4 * 3600)}


def shrunk(text, factor):
    def one(found):
        return f"{round(1000 * int(found[1]) * SECONDS[found[2]] / factor)}ms"

    return DURATION.sub(one, text)


def rules():
    """The rules as they stand, by file."""
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted(ALERTS.glob("*.rules.yml"))}


def each(files):
    return [rule for file in files.values() for group in file["groups"] for rule in group["rules"]]


def replaced(text, old, new):
    assert text.count(old) == 1, f"{old!r} does not stand once in {text!r}"
    return text.replace(old, new)


def faster(factor):
    """The rules with every duration divided, by file, and checked."""
    result = rules()
    for rule in each(result):
        if plain := PLAIN.get(rule.get("alert")):
            rule["expr"] = replaced(rule["expr"], plain[0], plain[1].format(plain[2] / factor))
        for key in TIMES:
            if key in rule:
                rule[key] = shrunk(rule[key], factor)
    check(result, factor)
    return {name: yaml.safe_dump(file, sort_keys=False, width=1000) for name, file in result.items()}


def check(result, factor):
    """It says what the rules say, but for durations, which are the `factor`th part."""
    ours, theirs = rules(), copy.deepcopy(result)
    changed = sum(rule != other for rule, other in zip(each(ours), each(theirs)))
    assert changed > 20, f"only {changed} rules have a duration"
    for rule in each(theirs):
        if plain := PLAIN.get(rule.get("alert")):
            rule["expr"] = replaced(rule["expr"], plain[1].format(plain[2] / factor), plain[0])
    for files, divided in [(ours, factor), (theirs, 1)]:
        for rule in each(files):
            for key in TIMES:
                if key in rule:
                    rule[key] = shrunk(rule[key], divided)
    assert ours == theirs, "more than durations has changed"
