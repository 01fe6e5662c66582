"""Checks of `alerts/` that promtool does not have: each alert has a test in which it fires, one in which it is silent, and a
runbook; and each metric, label and value that a rule or runbook names is on a page of `/metrics`.

    python3 -m tests.alerts.alert_rules PAGE
"""

import glob
import re
import sys

import yaml

from tests.common.promql import ALERTS, TARGET_LABELS, problems_of, recorded_labels, rule_files, rules_of, series_of


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def test_problems(severities):
    fires, silent = {}, set()
    for path in sorted(ALERTS.glob("tests/*.yml")):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test.get("alert_rule_test", []):
                alert = case["alertname"]
                expected = case.get("exp_alerts") or []
                if alert not in severities:
                    yield f"{path.name}: {alert} is no alert"
                if not test["name"].startswith(alert):
                    yield f"{path.name}: the test {test['name']!r} is of {alert}"
                if not expected and test["name"].startswith(f"{alert} is silent"):
                    silent.add(alert)
                fires.setdefault(alert, set()).update(one["exp_labels"]["severity"] for one in expected)
    for alert, wanted in severities.items():
        for severity in sorted(wanted - fires.get(alert, set())):
            yield f"{alert}: no test in which it fires as a {severity}"
        if alert not in silent:
            yield f"{alert}: no test in which it is silent"


def runbook_problems(severities):
    index = text_of("docs/runbooks/README.md")
    for alert in severities:
        try:
            text = text_of(f"docs/runbooks/{alert}.md")
        except FileNotFoundError:
            yield f"{alert}: docs/runbooks/{alert}.md is missing"
            continue
        if not text.startswith(f"# {alert}\n"):
            yield f"{alert}: its runbook has another title"
        sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
        if sections != ["Meaning", "Impact", "First look", "What to do"]:
            yield f"{alert}: its runbook has the sections {sections}"
        if f"[{alert}]({alert}.md)" not in index:
            yield f"{alert}: docs/runbooks/README.md does not list it"
    for path in glob.glob("docs/runbooks/RuvVector*.md"):
        if path.split("/")[-1].removesuffix(".md") not in severities:
            yield f"{path}: there is no such alert"


def runbook_query_problems(series, recorded):
    """Yields each name in the runbooks' PromQL that does not exist."""
    for path in sorted(glob.glob("docs/runbooks/*.md")):
        for block in re.findall(r"^```promql\n(.*?)^```", text_of(path), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if line.split("#")[0].strip():
                    yield from problems_of(path, line, series, recorded)


def inhibition_problems(severities):
    for rule in yaml.safe_load((ALERTS / "alertmanager-inhibitions.yml").read_text())["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, value = re.fullmatch(r'(\w+)\s*=~?\s*"?([^"]*)"?', matcher).groups()
            known = severities if label == "alertname" else {"page", "ticket"}
            for one in value.split("|"):
                if one not in known:
                    yield f"alertmanager-inhibitions.yml: nothing has the {label} {one}"
        for label in rule["equal"]:
            if label not in TARGET_LABELS:
                yield f"alertmanager-inhibitions.yml: {label} is no label of a target"


def alert_problems(title, rule):
    if rule["labels"]["severity"] not in ("page", "ticket"):
        yield f"{title}: the severity {rule['labels']['severity']} is neither page nor ticket"
    if set(rule["annotations"]) != {"summary", "description", "runbook_url"}:
        yield f"{title}: its annotations are {sorted(rule['annotations'])}"
    if rule["annotations"].get("runbook_url") != f"docs/runbooks/{title}.md":
        yield f"{title}: its runbook_url is not docs/runbooks/{title}.md"


def main():
    series = series_of(text_of(sys.argv[1]))
    rules = rules_of(rule_files())
    recorded = recorded_labels(rules)
    severities, problems = {}, []
    for rule in rules:
        title = rule.get("record") or rule["alert"]
        problems += problems_of(title, rule["expr"], series, recorded)
        if "alert" in rule:
            severities.setdefault(title, set()).add(rule["labels"]["severity"])
            problems += alert_problems(title, rule)
    problems += [*test_problems(severities), *runbook_problems(severities)]
    problems += [*runbook_query_problems(series, recorded), *inhibition_problems(severities)]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(severities)} alerts, {len(recorded)} recording rules, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
