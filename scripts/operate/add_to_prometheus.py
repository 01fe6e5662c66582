#!/usr/bin/env python3
"""Adds the service to a Prometheus that is there already: a scrape job, and the rules of `alerts/`.

    sudo python3 scripts/operate/add_to_prometheus.py /etc/prometheus/prometheus.yml 127.0.0.1:3100 …

The rules go beside the configuration, into `rules/`. What the configuration was is kept in `….before-ruvvector`; comments
and order stay. Run again, it brings the rules up to date and leaves a job `ruvvector` as it is. Prometheus has to be told to
reload afterwards. Needs nothing but promtool, which comes with Prometheus (PROMTOOL names another).

Invariant: the configuration is written only once promtool has taken it with all of its rules.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

RULES = Path(__file__).resolve().parents[2] / "alerts" / "ruvvector.rules.yml"
BESIDE = "rules/ruvvector.rules.yml"


def with_item(text, key, item):
    """The text with one more item, of these lines, at the head of the list `key`."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        found = re.match(rf"{key}:\s*(?:\[\s*(.*?)\s*\])?\s*(?:#.*)?$", line)
        if not found:
            if re.match(rf"{key}:", line):
                sys.exit(f"{key} is written in a way that this script does not edit. Add by hand to {key}:\n" + "\n".join(item))
            continue
        # A list in brackets becomes one of lines; the others stay as they are indented.
        values = [f"  - {value}" for value in re.split(r"\s*,\s*", found[1])] if found[1] else []
        if values and key != "rule_files":
            sys.exit(f"{key} is a list in brackets. Add by hand:\n" + "\n".join(item))
        rest = (each for each in lines[at + 1 :] if each.strip() and not each.lstrip().startswith("#"))
        indented = re.match(r"(\s*)- ", next(rest, ""))
        indent = indented[1] if indented and not values else "  "
        lines[at : at + 1] = [f"{key}:", *(indent + each for each in item), *values]
        return "\n".join(lines) + "\n"
    return text.rstrip("\n") + f"\n\n{key}:\n" + "".join(f"  {each}\n" for each in item)


def edited(text, targets):
    if not re.search(rf"^\s*[^#\s].*{re.escape(BESIDE)}", text, re.MULTILINE):
        text = with_item(text, "rule_files", [f"- {BESIDE}"])
    if not re.search(r"^\s*-?\s*job_name:\s*[\"']?ruvvector[\"']?\s*$", text, re.MULTILINE):
        addresses = ", ".join(f'"{target}"' for target in targets)
        job = ["- job_name: ruvvector", "  scrape_interval: 15s", "  static_configs:", f"    - targets: [{addresses}]"]
        text = with_item(text, "scrape_configs", job)
    return text


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    configuration, targets = Path(sys.argv[1]), sys.argv[2:]
    for target in targets:
        if not re.fullmatch(r"[^\s\"/]+:\d+", target):
            sys.exit(f"{target} is no HOST:PORT")
    promtool = os.environ.get("PROMTOOL", "promtool")
    if not shutil.which(promtool):
        sys.exit(f"{promtool} is missing: run this where Prometheus is, or let PROMTOOL name it")
    text = configuration.read_text()
    rules = configuration.parent / BESIDE
    rules.parent.mkdir(exist_ok=True)
    shutil.copyfile(RULES, rules)
    rules.chmod(0o644)
    new = edited(text, targets)
    # Beside the other, as paths in it are relative to it.
    trial = configuration.with_name(configuration.name + ".with-ruvvector")
    trial.write_text(new)
    try:
        checked = subprocess.run([promtool, "check", "config", str(trial)], capture_output=True, text=True)
    finally:
        trial.unlink()
    if checked.returncode:
        sys.exit(f"promtool does not take {configuration} with the service in it; it is as it was.\n{checked.stdout}{checked.stderr}")
    if new == text:
        print(f"{configuration} has the service already; {rules} is up to date")
    else:
        before = configuration.with_name(configuration.name + ".before-ruvvector")
        shutil.copy2(configuration, before)
        # In place: owner, mode and links stay.
        configuration.write_text(new)
        print(f"{configuration} scrapes {', '.join(targets)} and loads {rules}; as it was: {before}")
    print("Reload Prometheus: systemctl reload prometheus, or send it SIGHUP")


main()
