"""What promtool does not check of alerts/: each alert has both cases and a runbook; each metric, label and value that is
named stands on a page of `/metrics`.

    python3 tests/alerts/alert_rules.py PAGE
"""

import glob
import re
import sys

import yaml

# What Prometheus itself adds, and what only a scrape in Kubernetes does.
TARGET_LABELS = {"job", "instance", "namespace"}
OWN_SERIES = {"up": TARGET_LABELS}
KEYWORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"}
GROUPINGS = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"
NAME = r"[A-Za-z_:][A-Za-z0-9_:]*"

problems = []


def say(text):
    problems.append(text)


def load(path):
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def series_of(page):
    """The label sets of each name."""
    series = {name: [] for name in OWN_SERIES}
    for line in page.splitlines():
        found = re.match(rf"({NAME})(?:\{{(.*)\}})? ", line)
        if found:
            labels = dict(re.findall(rf'({NAME})="((?:[^"\\]|\\.)*)"', found[2] or ""))
            series.setdefault(found[1], []).append(labels)
    return series


def selectors_of(expression):
    """The selectors of an expression, each a name and its matchers; and the labels it groups by."""
    grouped = {label.strip() for labels in re.findall(GROUPINGS, expression) for label in labels.split(",")} - {""}
    rest = re.sub(GROUPINGS, " ", expression)
    rest = re.sub(r"\[[^\]]*\]|\boffset\s+\w+", " ", rest)
    selectors = []
    for found in re.finditer(rf"(?<![A-Za-z0-9_:.])({NAME})\s*(\{{[^}}]*\}}|\()?", re.sub(r"#.*", "", rest)):
        name, after = found[1], found[2] or ""
        if after == "(" or name in KEYWORDS:
            continue
        selectors.append((name, re.findall(rf'({NAME})\s*(=~|!~|!=|=)\s*"([^"]*)"', after)))
    return selectors, grouped


def check_expression(title, expression, series, recorded):
    selectors, grouped = selectors_of(expression)
    if not selectors:
        say(f"{title}: no metric was found in {expression!r}")
    there = set(TARGET_LABELS)
    for name, matchers in selectors:
        if name in recorded:
            there |= recorded[name]
            continue
        if name not in series:
            say(f"{title}: {name} is not on the page")
            continue
        labels = set(OWN_SERIES.get(name, ())).union(*series[name])
        there |= labels
        for label, how, value in matchers:
            if label in TARGET_LABELS:
                continue
            if label not in labels:
                say(f"{title}: {name} has no label {label}")
            # Status codes come with the answers; all other labels have their values from the start.
            elif not label.endswith("_status_code"):
                values = {has[label] for has in series[name] if label in has}
                wanted = re.escape(value) if how in ("=", "!=") else value
                if not any(re.fullmatch(wanted, value) for value in values):
                    say(f"{title}: no {name} has a {label} like {value!r}, only {sorted(values)}")
    for label in grouped - there:
        say(f"{title}: groups by {label}, which none of its metrics has")


def check_tests(severities):
    fires, silent = {}, set()
    for path in sorted(glob.glob("alerts/tests/*.yml")):
        for test in load(path)["tests"]:
            for case in test.get("alert_rule_test", []):
                alert = case["alertname"]
                expected = case.get("exp_alerts") or []
                if alert not in severities:
                    say(f"{path}: {alert} is no alert")
                if not test["name"].startswith(alert):
                    say(f"{path}: the test {test['name']!r} is of {alert}")
                if not expected and test["name"].startswith(f"{alert} is silent"):
                    silent.add(alert)
                fires.setdefault(alert, set()).update(one["exp_labels"]["severity"] for one in expected)
    for alert, wanted in severities.items():
        for severity in sorted(wanted - fires.get(alert, set())):
            say(f"{alert}: no test in which it fires as a {severity}")
        if alert not in silent:
            say(f"{alert}: no test in which it is silent")


def check_runbooks(severities):
    index = open("docs/runbooks/README.md", encoding="utf-8").read()
    for alert in severities:
        try:
            text = open(f"docs/runbooks/{alert}.md", encoding="utf-8").read()
        except FileNotFoundError:
            say(f"{alert}: docs/runbooks/{alert}.md is missing")
            continue
        if not text.startswith(f"# {alert}\n"):
            say(f"{alert}: its runbook has another title")
        sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
        if sections != ["Meaning", "Impact", "First look", "What to do"]:
            say(f"{alert}: its runbook has the sections {sections}")
        if f"[{alert}]({alert}.md)" not in index:
            say(f"{alert}: docs/runbooks/README.md does not list it")
    for path in glob.glob("docs/runbooks/RuvVector*.md"):
        if path.split("/")[-1].removesuffix(".md") not in severities:
            say(f"{path}: there is no such alert")


def check_runbook_queries(series, recorded):
    """The PromQL of the runbooks names only what there is."""
    for path in sorted(glob.glob("docs/runbooks/*.md")):
        for block in re.findall(r"^```promql\n(.*?)^```", open(path, encoding="utf-8").read(), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if line.split("#")[0].strip():
                    check_expression(path, line, series, recorded)


def check_inhibitions(severities):
    for rule in load("alerts/alertmanager-inhibitions.yml")["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, value = re.fullmatch(r'(\w+)\s*=~?\s*"?([^"]*)"?', matcher).groups()
            known = severities if label == "alertname" else {"page", "ticket"}
            for one in value.split("|"):
                if one not in known:
                    say(f"alertmanager-inhibitions.yml: nothing has the {label} {one}")
        for label in rule["equal"]:
            if label not in TARGET_LABELS:
                say(f"alertmanager-inhibitions.yml: {label} is no label of a target")


def main():
    series = series_of(open(sys.argv[1], encoding="utf-8").read())
    rules = [
        rule
        for path in sorted(glob.glob("alerts/*.rules.yml"))
        for group in load(path)["groups"]
        for rule in group["rules"]
    ]
    recorded = {rule["record"]: TARGET_LABELS for rule in rules if "record" in rule}
    severities = {}
    for rule in rules:
        title = rule.get("record") or rule["alert"]
        check_expression(title, rule["expr"], series, recorded)
        if "record" in rule:
            continue
        severity = rule["labels"]["severity"]
        severities.setdefault(title, set()).add(severity)
        if severity not in ("page", "ticket"):
            say(f"{title}: the severity {severity} is neither page nor ticket")
        if set(rule["annotations"]) != {"summary", "description", "runbook_url"}:
            say(f"{title}: its annotations are {sorted(rule['annotations'])}")
        if rule["annotations"].get("runbook_url") != f"docs/runbooks/{title}.md":
            say(f"{title}: its runbook_url is not docs/runbooks/{title}.md")
    check_tests(severities)
    check_runbooks(severities)
    check_runbook_queries(series, recorded)
    check_inhibitions(severities)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(severities)} alerts, {len(recorded)} recording rules, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
