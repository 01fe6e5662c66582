"""Reads PromQL expressions, pages of `/metrics` and the rules of `alerts/`, and compares them.

Invariant: a metric, label or value that an expression names is looked up on a page of the real service, never in a list.
"""

import re

import yaml

from tests.common import ROOT

ALERTS = ROOT / "alerts"
# Prometheus itself adds the first two to every series, a scrape in Kubernetes the third.
TARGET_LABELS = {"job", "instance", "namespace"}
# Series that Prometheus writes for each target.
SCRAPE_SERIES = {"up": TARGET_LABELS}
KEYWORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"}
GROUPINGS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
NAME = r"[A-Za-z_:][A-Za-z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? ")
LABEL = re.compile(rf'({NAME})="((?:[^"\\]|\\.)*)"')
SELECTOR = re.compile(rf"(?<![A-Za-z0-9_:.])({NAME})\s*(\{{[^}}]*\}}|\()?")
MATCHER = re.compile(rf'({NAME})\s*(=~|!~|!=|=)\s*"([^"]*)"')


def series_of(page):
    """Returns the label sets of each metric on a page of `/metrics`."""
    series = {name: [] for name in SCRAPE_SERIES}
    for line in page.splitlines():
        if sample := SAMPLE.match(line):
            series.setdefault(sample[1], []).append(dict(LABEL.findall(sample[2] or "")))
    return series


def selectors_of(expression):
    """Returns `(metric, [(label, operator, value)])` for each selector of an expression."""
    rest = re.sub(r"\[[^\]]*\]|\boffset\s+\w+", " ", GROUPINGS.sub(" ", expression))
    found = SELECTOR.findall(re.sub(r"#.*", "", rest))
    return [(name, MATCHER.findall(after)) for name, after in found if after != "(" and name not in KEYWORDS]


def grouping_labels(expression):
    """Returns the labels that an expression groups by or matches on."""
    return {label.strip() for labels in GROUPINGS.findall(expression) for label in labels.split(",")} - {""}


def rule_files():
    """Returns the rules of `alerts/`, by file name."""
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted(ALERTS.glob("*.rules.yml"))}


def rules_of(files):
    return [rule for file in files.values() for group in file["groups"] for rule in group["rules"]]


def recorded_labels(rules):
    """Returns the labels of each recorded series."""
    return {rule["record"]: TARGET_LABELS for rule in rules if "record" in rule}


def problems_of(title, expression, series, recorded):
    """Yields each name in an expression that no page of metrics and no recording rule has."""
    selectors = selectors_of(expression)
    if not selectors:
        yield f"{title}: no metric was found in {expression!r}"
    known = set(TARGET_LABELS)
    for name, matchers in selectors:
        if name in recorded:
            known |= recorded[name]
        elif name not in series:
            yield f"{title}: {name} is not on the page"
        else:
            known |= set(SCRAPE_SERIES.get(name, ())).union(*series[name])
            yield from matcher_problems(title, name, matchers, series[name])
    for label in grouping_labels(expression) - known:
        yield f"{title}: groups by {label}, which none of its metrics has"


def matcher_problems(title, name, matchers, series):
    for label, operator, value in matchers:
        if label in TARGET_LABELS:
            continue
        values = {labels[label] for labels in series if label in labels}
        wanted = re.escape(value) if operator in ("=", "!=") else value
        if not values:
            yield f"{title}: {name} has no label {label}"
        # A status code appears with its first answer. All other labels have their values from the start.
        elif not label.endswith("_status_code") and not any(re.fullmatch(wanted, each) for each in values):
            yield f"{title}: no {name} has a {label} like {value!r}, only {sorted(values)}"
