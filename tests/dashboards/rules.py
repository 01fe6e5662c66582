"""Checks every dashboard by the rules of Grafana's dashboard linter and by this project's own.

    target/dashboards/grafana-main/bin/python -m tests.dashboards.rules

Invariant: each rule is one function that yields each breach of it; `check` runs every rule on every dashboard.
"""

import re
import sys

import yaml

from tests.common.promql import selectors_of
from tests.dashboards.boards import DIRECTORY, POSTGRES, PROMETHEUS, boards, panels, variables

# Grafana's units that the dashboards use. Grafana shows a misspelt one as a plain suffix.
UNITS = {"none", "short", "bytes", "Bps", "cps", "reqps", "percentunit", "s", "ns", "dtdurations"}
# The properties that an override may set; the models accept any name.
PROPERTIES = {"unit", "color", "links", "mappings", "thresholds", "displayName"}
PROPERTIES |= {
    f"custom.{name}" for name in ["axisPlacement", "cellOptions", "fillOpacity", "hidden", "lineStyle", "width"]
}
RANGE = re.compile(r"\btimestamp BETWEEN \$__from AND \$__to\b")
GROUP = "$__unixEpochGroup(timestamp/1000, $__interval) AS time"
TRACE = "trace_id = lower(${trace_id:sqlstring})"


def kind(board):
    return variables(board)["datasource"]["query"]


def identity(name, board):
    if board["uid"] != f"ruvvector-{name}":
        yield f"its uid is {board['uid']}, not ruvvector-{name}: links to it break"
    if board.get("id") is not None:
        yield "has an id: Grafana gives one"
    if board["editable"]:
        yield "is editable: Grafana cannot save a provisioned dashboard"
    if not board["title"].startswith("RuvVector ") or not board["description"]:
        yield "has no title or description of its own"
    if board["tags"] != ["ruvvector"] or [link["tags"] for link in board["links"]] != [["ruvvector"]]:
        yield "does not link to the others by their tag"


def datasource(name, board):
    variable = variables(board).get("datasource", {})
    if variable.get("type") != "datasource" or variable.get("label") != "Data source":
        yield "has no variable `datasource`, labelled `Data source`"
    of = {"type": kind(board), "uid": "${datasource}"}
    for panel in panels(board):
        for what in [panel, *panel["targets"]]:
            if what.get("datasource") != of:
                yield f"{panel['title']}: its data source is {what.get('datasource')}, not the variable"
    for variable in variables(board).values():
        if variable["type"] == "query" and variable["datasource"] != of:
            yield f"${variable['name']}: its data source is not the variable"


def job_and_instance(name, board):
    if kind(board) != PROMETHEUS:
        return
    for label in ["job", "instance"]:
        variable = variables(board).get(label, {})
        wanted = {
            "type": "query",
            "label": label.capitalize(),
            "multi": True,
            "includeAll": True,
            # Grafana's linter asks for `.+`, which would show `process_*` of every program that Prometheus scrapes.
            "allValue": None,
            "refresh": 2,
        }
        for key, value in wanted.items():
            if variable.get(key) != value:
                yield f"${label}: {key} is {variable.get(key)!r}, not {value!r}"
    for panel in panels(board):
        for target in panel["targets"]:
            for metric, matchers in selectors_of(target["expr"]):
                for label in ["job", "instance"]:
                    if (label, "=~", f"${label}") not in matchers:
                        yield f"{panel['title']}: {metric} is not matched by ${label}"


def panel_texts(name, board):
    ids = [panel["id"] for panel in board["panels"]]
    titles = [panel["title"] for panel in board["panels"]]
    if len(set(ids)) != len(ids) or len(set(titles)) != len(titles):
        yield "an id or a title is repeated"
    for panel in panels(board):
        if not panel["title"] or not panel.get("description", "").endswith("."):
            yield f"{panel['title']}: has no title, or no description that is a sentence"
        if not panel["targets"]:
            yield f"{panel['title']}: has no query"
        references = [target["refId"] for target in panel["targets"]]
        if len(set(references)) != len(references):
            yield f"{panel['title']}: a refId is repeated"


def units_and_thresholds(name, board):
    for panel in panels(board):
        config = panel["fieldConfig"]
        properties = [each for override in config["overrides"] for each in override["properties"]]
        for property_ in properties:
            if property_["id"] not in PROPERTIES:
                yield f"{panel['title']}: sets {property_['id']}, which is not known"
        found = [config["defaults"].get("unit")] + [each["value"] for each in properties if each["id"] == "unit"]
        for unit in found:
            if unit not in UNITS:
                yield f"{panel['title']}: unit {unit!r} is not known"
        thresholds = config["defaults"].get("thresholds")
        if panel["type"] == "stat" and not thresholds:
            yield f"{panel['title']}: a single number without thresholds"
        if thresholds:
            values = [step["value"] for step in thresholds["steps"]]
            if values[0] is not None or values[1:] != sorted(set(values[1:])):
                yield f"{panel['title']}: its thresholds do not ascend from null"


def layout(name, board):
    taken = {}
    for panel in board["panels"]:
        at = panel["gridPos"]
        if at["x"] + at["w"] > 24:
            yield f"{panel['title']}: is wider than the page"
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            if taken.setdefault(cell, panel["title"]) != panel["title"]:
                yield f"{panel['title']}: lies over {taken[cell]}"
                break


def promql(name, board):
    for panel in panels(board):
        for target in panel["targets"] if kind(board) == PROMETHEUS else []:
            expression = target["expr"]
            for window in re.findall(r"\[([^]]*)\]", expression):
                if window != "$__rate_interval":
                    yield f"{panel['title']}: a window of {window}, not of $__rate_interval"
            for metric, _ in selectors_of(expression):
                counts = metric.endswith(("_total", "_bucket", "_sum", "_count"))
                rated = re.search(rf"\b(?:rate|increase)\({metric}\{{[^}}]*\}}\[", expression)
                if counts and not rated:
                    yield f"{panel['title']}: {metric} is a counter, and shown without rate or increase"
                if rated and not counts:
                    yield f"{panel['title']}: {metric} is no counter, and rated"
            if "histogram_quantile" in expression and not re.search(r"by \(le\b", expression):
                yield f"{panel['title']}: a quantile without le"
            if bool(target.get("instant")) == bool(target.get("range")):
                yield f"{panel['title']}: neither instant nor over a range, or both"


def sql(name, board):
    if kind(board) != POSTGRES:
        return
    texts = [
        (panel["title"], target["rawSql"], target["format"]) for panel in panels(board) for target in panel["targets"]
    ]
    texts += [
        (f"${each['name']}", each["query"], "table") for each in variables(board).values() if each["type"] == "query"
    ]
    for title, text, format_ in texts:
        if not RANGE.search(text) and TRACE not in text:
            yield f"{title}: bounded by neither the time range nor a trace id"
        if format_ == "time_series" and (GROUP not in text or "GROUP BY 1" not in text):
            yield f"{title}: not grouped by {GROUP}"
        if re.search(r"\$__time|\$__unixEpochFilter|created_at", text):
            yield f"{title}: a macro or column that reads every partition, or does not fit milliseconds"
        if not title.startswith("$") and format_ == "table" and "LIMIT" not in text and "HAVING" not in text:
            yield f"{title}: rows without a limit"


def links(name, board):
    uids = {each["uid"] for each in boards().values()}
    for panel in panels(board):
        if name != "trace" and re.search(r"\btrace_id\s+FROM\b", panel["targets"][0].get("rawSql", "")):
            found = re.findall(r'"/d/[\w-]+', str(panel["fieldConfig"]).replace("'", '"'))
            if found != ['"/d/ruvvector-trace']:
                yield f"{panel['title']}: shows trace ids, and none opens the trace"
    for uid in re.findall(r"/d/([\w-]+)", str(board)):
        if uid not in uids:
            yield f"links to {uid}, which is not a dashboard of this project"


def provisioning():
    """The provisioning files name the kinds of data sources that the dashboards use, and each name and uid once."""
    sources = yaml.safe_load((DIRECTORY / "provisioning/datasources/ruvvector.yml").read_text())
    if {source["type"] for source in sources["datasources"]} != {kind(board) for board in boards().values()}:
        yield "provisioning: other kinds of data sources than the dashboards'"
    for key in ["name", "uid"]:
        if len({source[key] for source in sources["datasources"]}) != len(sources["datasources"]):
            yield f"provisioning: a {key} is repeated"
    providers = yaml.safe_load((DIRECTORY / "provisioning/dashboards/ruvvector.yml").read_text())
    if sources["apiVersion"] != 1 or providers["apiVersion"] != 1:
        yield "provisioning: apiVersion is not 1"
    if [(each["type"], bool(each["options"]["path"])) for each in providers["providers"]] != [("file", True)]:
        yield "provisioning: the dashboards are not read from files"


RULES = [identity, datasource, job_and_instance, panel_texts, units_and_thresholds, layout, promql, sql, links]


def check():
    for name, board in boards().items():
        for rule in RULES:
            for problem in rule(name, board):
                yield f"{name}: {problem}"
    yield from provisioning()


if __name__ == "__main__":
    if problems := list(check()):
        sys.exit("\n".join(problems))
    print(f"{len(RULES)} rules hold for {', '.join(boards())}")
