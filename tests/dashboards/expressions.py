"""Checks every PromQL expression of the dashboards: by the service's page of metrics, and by a Prometheus that scraped it.

Invariant: the checked expression is the dashboard's own; only Grafana's variables are replaced.
"""

import math
import re

from tests.common.programs import until
from tests.common.promql import TARGET_LABELS, selectors_of, series_of
from tests.common.servers import ask, prometheus_answer
from tests.common.traffic import round_of
from tests.dashboards.boards import DIRECTORY, PROMETHEUS, boards, queries, variables

README = (DIRECTORY / "README.md").read_text()
SUFFIXES = re.compile(r"_(?:bucket|sum|count)$")
# Metrics of the service that need no panel: they help beside others, in a runbook or to a reader of the page.
WITHOUT_PANEL = {
    "ruvvector_backlog_at_start_events",
    "ruvvector_journal_position",
    "ruvvector_journal_retained_seconds",
    "ruvvector_journal_segments",
    "ruvvector_journal_volume_size_bytes",
    "ruvvector_receive_request_bytes",
}


def check_names(page):
    """Yields each metric, label and value that a query names and the page lacks."""
    series = series_of(page)
    for where, panel, expression in queries(PROMETHEUS, "expr"):
        labels = set(TARGET_LABELS)
        for metric, matchers in selectors_of(expression):
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


def check_shown(page):
    """Yields each metric of the service that no panel shows, unless it is known to need none."""
    here = {SUFFIXES.sub("", name) for name in series_of(page) if name.startswith("ruvvector_")}
    expressions = [expression for _, _, expression in queries(PROMETHEUS, "expr")]
    shown = {SUFFIXES.sub("", metric) for expression in expressions for metric, _ in selectors_of(expression)}
    yield from (f"no panel shows {name}" for name in sorted(here - shown - WITHOUT_PANEL))
    yield from (f"{name} is in a panel, or is no metric" for name in sorted(WITHOUT_PANEL - (here - shown)))


def substituted(expression, chosen):
    """Returns the expression as Grafana sends it while `job` and `instance` have the chosen values."""
    values = {f"${name}": "|".join(map(re.escape, some)).replace("\\", r"\\") for name, some in chosen.items()}
    for name, value in {"$__rate_interval": "5s", **values}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"a variable that the check does not know: {expression}"
    return expression


def values_of(address, variable, chosen):
    metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()
    return prometheus_answer(address, f"label/{label}/values", **{"match[]": substituted(metric, chosen)})


def numbers(address, expression, chosen):
    """Returns the numbers of an instant query; each series with an instance must be of a chosen one."""
    answer = prometheus_answer(address, "query", query=substituted(expression, chosen))
    for series in answer["result"]:
        assert series["metric"].get("instance") in [None, *chosen["instance"]], f"of another program: {series}"
    values = [float(series["value"][1]) for series in answer["result"]]
    return [value for value in values if not math.isnan(value)]


def all_of(address, job):
    """Returns the values of `All` in a newly opened overview, or of one job if it is given; None if a variable has none."""
    chosen = {"job": [job]} if job else {}
    for name in ["job", "instance"]:
        if name not in chosen:
            chosen[name] = values_of(address, variables(boards()["overview"])[name], chosen)
    return chosen if all(chosen.values()) else None


def legend(panel, expression):
    return next(target["legendFormat"] for target in panel["targets"] if target["expr"] == expression)


def check_data(address, listeners, rounds, job=None, empty=()):
    """Yields each expression without numbers while events of all kinds arrive, and each named in `empty` that has some."""
    asked = [(where, expression, legend(panel, expression)) for where, panel, expression in queries(PROMETHEUS, "expr")]
    silent = {(where, expression): called in empty for where, expression, called in asked}
    chosen = until("the variables have values", lambda: all_of(address, job))

    def all_have_numbers():
        for where, expression in list(silent):
            if numbers(address, expression, chosen):
                del silent[where, expression]
        if silent:
            round_of(listeners, next(rounds))
        return None if all(silent.values()) else True

    try:
        until("numbers for every expression", all_have_numbers)
    except TimeoutError:
        yield from (f"{where}: no numbers for {expression}" for (where, expression), none in silent.items() if not none)
    for where, expression, called in asked:
        if called in empty and (where, expression) not in silent:
            yield f"{where}: has data, although dashboards/README.md says that it has none"


def check_sqlite(address, listeners, rounds, job):
    """Checks the overview of an instance on SQLite: each line has data unless dashboards/README.md says that it has none."""
    sentence = re.search(r"SQLite only the overview works, (.*?)\.\n", README, re.DOTALL)[1]
    empty = set(re.findall(r"\*([^*]+)\*", re.sub(r"\s+", " ", sentence)))
    yield from check_data(address, listeners, rounds, job, empty)


def check(address, listeners, rounds):
    problems = []

    def nothing_missing():
        round_of(listeners, next(rounds))
        status, page = ask(listeners["main"] + "/metrics")
        assert status == 200, page
        problems[:] = [*check_names(page), *check_shown(page)]
        return None if problems else True

    try:
        # The maintenance task sets some of them for the first time a moment after the start.
        until("every metric and label", nothing_missing)
    except TimeoutError:
        yield from problems
    else:
        yield from check_data(address, listeners, rounds)
