"""Divides every duration in the rules of `alerts/`, so that a test of minutes takes seconds.

Invariant: the result differs from `alerts/` in durations alone; `check` fails on any other difference.
"""

import copy
import re

import yaml

from tests.common.promql import rule_files, rules_of

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
# Matches a duration of PromQL or of a rule's `for`, such as `5m`, but no part of a name (`rate5m`) or of a number.
DURATION = re.compile(r"(?<![\w.])(\d+)(ms|[smhdwy])\b")
TIMES = ("expr", "for", "keep_firing_for")
# Waiting times that rules give as plain numbers of seconds, by alert. Other seconds are durations of a disk or a pool.
PLAIN = {"RuvVectorQueueAge": ("> 900", "> {:g}", 900), "RuvVectorQueueFilling": ("4 * 3600", "{:g}", 4 * 3600)}


def shrunk(text, factor):
    def one(found):
        return f"{round(1000 * int(found[1]) * SECONDS[found[2]] / factor)}ms"

    return DURATION.sub(one, text)


def replaced(text, old, new):
    assert text.count(old) == 1, f"{old!r} is not exactly once in {text!r}"
    return text.replace(old, new)


def faster(factor):
    """Returns the files of rules with every duration divided by `factor`, checked."""
    result = rule_files()
    for rule in rules_of(result):
        if plain := PLAIN.get(rule.get("alert")):
            rule["expr"] = replaced(rule["expr"], plain[0], plain[1].format(plain[2] / factor))
        for key in TIMES:
            if key in rule:
                rule[key] = shrunk(rule[key], factor)
    check(result, factor)
    return {name: yaml.safe_dump(file, sort_keys=False, width=1000) for name, file in result.items()}


def check(result, factor):
    """Fails if `result` differs from the rules in more than durations, or if a duration is not the `factor`th part."""
    ours, theirs = rule_files(), copy.deepcopy(result)
    changed = sum(rule != other for rule, other in zip(rules_of(ours), rules_of(theirs)))
    assert changed > 20, f"only {changed} rules have a duration"
    for rule in rules_of(theirs):
        if plain := PLAIN.get(rule.get("alert")):
            rule["expr"] = replaced(rule["expr"], plain[1].format(plain[2] / factor), plain[0])
    for files, divided in [(ours, factor), (theirs, 1)]:
        for rule in rules_of(files):
            for key in TIMES:
                if key in rule:
                    rule[key] = shrunk(rule[key], divided)
    assert ours == theirs, "more than durations has changed"
