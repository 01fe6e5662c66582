"""Every PromQL expression against what the binary exposes, and against a Prometheus that scraped it.

Invariant: what is checked is the expression as it stands, with nothing but Grafana's variables put in.
"""

import itertools
import math
import re

from boards import PROMETHEUS, boards, queries, selectors, variables
from load import round_of
from servers import ask, prometheus_answer, until

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? \S+$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
SUFFIXES = re.compile(r"_(?:bucket|sum|count)$")
# What Prometheus itself puts on every series.
TARGET_LABELS = {"job", "instance"}


def exposed(page):
    """Label sets by metric."""
    series = {}
    for line in page.splitlines():
        if sample := SAMPLE.match(line):
            series.setdefault(sample[1], []).append(dict(LABEL.findall(sample[2] or "")))
    return series


def check_names(page):
    """Every metric, every label and every value that is asked for by name is on the page."""
    series = exposed(page)
    for where, panel, expression in queries(PROMETHEUS, "expr"):
        labels = set(TARGET_LABELS)
        for metric, matchers in selectors(expression):
            if metric not in series:
                yield f"{where}: the service has no {metric}"
                continue
            labels |= {label for labels_ in series[metric] for label in labels_}
            for label, operator, pattern in matchers:
                for value in pattern.split("|") if label not in TARGET_LABELS else []:
                    match = re.compile(value if "~" in operator else re.escape(value))
                    if not any(match.fullmatch(labels_.get(label, "")) for labels_ in series[metric]):
                        yield f"{where}: no {metric} has {label}{operator}{value!r}"
        legends = " ".join(target["legendFormat"] for target in panel["targets"] if target["expr"] == expression)
        used = {
            label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in re.split(r",\s*", group)
        }
        used |= set(re.findall(r"\{\{(\w+)\}\}", legends))
        if unknown := used - labels:
            yield f"{where}: no label {unknown} on what it reads"


def substituted(expression):
    for name, value in {"$__rate_interval": "5s", "$job": "ruvvector", "$instance": ".+"}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"a variable that the check does not know: {expression}"
    return expression


def numbers(address, expression):
    """The values of an instant query that are numbers."""
    answer = prometheus_answer(address, "query", query=substituted(expression))
    values = [float(series["value"][1]) for series in answer["result"]]
    return [value for value in values if not math.isnan(value)]


def check_data(address, listeners, rounds):
    """Every expression gives numbers, and every variable values, while events of all kinds come in."""
    silent = dict.fromkeys((where, expression) for where, _, expression in queries(PROMETHEUS, "expr"))

    def all_speak():
        for where, expression in list(silent):
            if numbers(address, expression):
                del silent[where, expression]
        if silent:
            round_of(listeners, next(rounds))
        return None if silent else True

    try:
        until("numbers for every expression", all_speak)
    except TimeoutError:
        yield from (f"{where}: no numbers for {substituted(expression)}" for where, expression in silent)
    for name, board in boards().items():
        for variable in variables(board).values():
            if variable["type"] == "query" and variable["datasource"]["type"] == PROMETHEUS:
                metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()
                if not prometheus_answer(address, f"label/{label}/values", **{"match[]": substituted(metric)}):
                    yield f"{name}: ${variable['name']} has no values"


def check(address, listeners):
    rounds = itertools.count(1)
    problems = []

    def all_there():
        round_of(listeners, next(rounds))
        status, page = ask(listeners["main"] + "/metrics")
        assert status == 200, page
        problems[:] = check_names(page)
        return None if problems else True

    try:
        # Some are first told by the upkeep, which comes a moment after the start.
        until("every metric and label", all_there)
    except TimeoutError:
        yield from problems
    else:
        yield from check_data(address, listeners, rounds)
