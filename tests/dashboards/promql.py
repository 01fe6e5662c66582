"""Every PromQL expression against what the binary exposes, and against a Prometheus that scraped it.

Invariant: what is checked is the expression as it stands, with nothing but Grafana's variables put in.
"""

import math
import re

from boards import DIRECTORY, PROMETHEUS, boards, queries, selectors, variables
from load import round_of
from servers import ask, prometheus_answer, until

README = (DIRECTORY / "README.md").read_text()
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? \S+$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
SUFFIXES = re.compile(r"_(?:bucket|sum|count)$")
# The service's own metrics that need no panel: they are of use beside others, in a runbook or to a reader of the page.
WITHOUT_PANEL = {
    "ruvvector_backlog_at_start_events",
    "ruvvector_journal_position",
    "ruvvector_journal_retained_seconds",
    "ruvvector_journal_segments",
    "ruvvector_journal_volume_size_bytes",
    "ruvvector_receive_request_bytes",
}
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


def check_shown(page):
    """Every metric of the service's own is in a panel, or is known to need none."""
    here = {SUFFIXES.sub("", name) for name in exposed(page) if name.startswith("ruvvector_")}
    expressions = [expression for _, _, expression in queries(PROMETHEUS, "expr")]
    shown = {SUFFIXES.sub("", metric) for expression in expressions for metric, _ in selectors(expression)}
    yield from (f"no panel shows {name}" for name in sorted(here - shown - WITHOUT_PANEL))
    yield from (f"{name} is in a panel, or is no metric" for name in sorted(WITHOUT_PANEL - (here - shown)))


def substituted(expression, chosen):
    """The expression as Grafana sends it, with these values chosen of `job` and of `instance`."""
    values = {f"${name}": "|".join(map(re.escape, some)).replace("\\", r"\\") for name, some in chosen.items()}
    for name, value in {"$__rate_interval": "5s", **values}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"a variable that the check does not know: {expression}"
    return expression


def values_of(address, variable, chosen):
    metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()
    return prometheus_answer(address, f"label/{label}/values", **{"match[]": substituted(metric, chosen)})


def numbers(address, expression, chosen):
    """The values of an instant query that are numbers; what is told by instance is of those chosen."""
    answer = prometheus_answer(address, "query", query=substituted(expression, chosen))
    for series in answer["result"]:
        assert series["metric"].get("instance") in [None, *chosen["instance"]], f"of another program: {series}"
    values = [float(series["value"][1]) for series in answer["result"]]
    return [value for value in values if not math.isnan(value)]


def all_of(address, job):
    """What a newcomer has chosen, who opens the overview and leaves it at `All`; but one job, where one is given."""
    chosen = {"job": [job]} if job else {}
    for name in ["job", "instance"]:
        if name not in chosen:
            chosen[name] = values_of(address, variables(boards()["overview"])[name], chosen)
    return chosen if all(chosen.values()) else None


def legend(panel, expression):
    return next(target["legendFormat"] for target in panel["targets"] if target["expr"] == expression)


def check_data(address, listeners, rounds, job=None, empty=()):
    """Every expression gives numbers while events of all kinds come in, but for those whose legend is in `empty`."""
    asked = [(where, expression, legend(panel, expression)) for where, panel, expression in queries(PROMETHEUS, "expr")]
    silent = {(where, expression): called in empty for where, expression, called in asked}
    chosen = until("the variables have values", lambda: all_of(address, job))

    def all_speak():
        for where, expression in list(silent):
            if numbers(address, expression, chosen):
                del silent[where, expression]
        if silent:
            round_of(listeners, next(rounds))
        return None if all(silent.values()) else True

    try:
        until("numbers for every expression", all_speak)
    except TimeoutError:
        yield from (f"{where}: no numbers for {expression}" for (where, expression), none in silent.items() if not none)
    for where, expression, called in asked:
        if called in empty and (where, expression) not in silent:
            yield f"{where}: has data, and is said to have none"


def check_sqlite(address, listeners, rounds, job):
    """The overview of an instance on SQLite: a line has data, or dashboards/README.md says that it has none."""
    sentence = re.search(r"SQLite only the overview works, (.*?)\.\n", README, re.DOTALL)[1]
    empty = set(re.findall(r"\*([^*]+)\*", re.sub(r"\s+", " ", sentence)))
    yield from check_data(address, listeners, rounds, job, empty)


def check(address, listeners, rounds):
    problems = []

    def all_there():
        round_of(listeners, next(rounds))
        status, page = ask(listeners["main"] + "/metrics")
        assert status == 200, page
        problems[:] = [*check_names(page), *check_shown(page)]
        return None if problems else True

    try:
        # Some are first told by the upkeep, which comes a moment after the start.
        until("every metric and label", all_there)
    except TimeoutError:
        yield from problems
    else:
        yield from check_data(address, listeners, rounds)
