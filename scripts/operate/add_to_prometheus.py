#!/usr/bin/env python3
"""Adds the service to the configuration of a running Prometheus: a scrape job, and the rules of `alerts/`. For operators.

    sudo python3 scripts/operate/add_to_prometheus.py /etc/prometheus/prometheus.yml 127.0.0.1:3100 …

The rules are copied to `rules/` beside the configuration, and the previous configuration to `….before-ruvvector`. Comments and
order stay. A second run updates the rules and leaves an existing job `ruvvector` unchanged. Prometheus has to reload afterwards.
Needs Python 3 and promtool, which is part of Prometheus; PROMTOOL names another promtool.

Invariant: the configuration is written only after promtool has accepted it with all of its rules.
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
    """Returns the text with an item, of these lines, added at the beginning of the list `key`."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        found = re.match(rf"{key}:\s*(?:\[\s*(.*?)\s*\])?\s*(?:#.*)?$", line)
        if not found:
            if re.match(rf"{key}:", line):
                sys.exit(f"{key} is written in a form that this script cannot edit. Add to {key} by hand:\n" + "\n".join(item))
            continue
        # A list in brackets becomes a list of lines; other lists keep their indentation.
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
            sys.exit(f"{target} is not of the form HOST:PORT")
    promtool = os.environ.get("PROMTOOL", "promtool")
    if not shutil.which(promtool):
        sys.exit(f"{promtool} is missing: run this on the machine of Prometheus, or name it by PROMTOOL")
    text = configuration.read_text()
    rules = configuration.parent / BESIDE
    rules.parent.mkdir(exist_ok=True)
    shutil.copyfile(RULES, rules)
    rules.chmod(0o644)
    new = edited(text, targets)
    # The trial is in the same directory, as paths in it are relative.
    trial = configuration.with_name(configuration.name + ".with-ruvvector")
    trial.write_text(new)
    try:
        checked = subprocess.run([promtool, "check", "config", str(trial)], capture_output=True, text=True)
    finally:
        trial.unlink()
    if checked.returncode:
        sys.exit(f"promtool refuses {configuration} with the service in it. The file is unchanged.\n{checked.stdout}{checked.stderr}")
    if new == text:
        print(f"{configuration} already has the service; {rules} is up to date")
    else:
        before = configuration.with_name(configuration.name + ".before-ruvvector")
        shutil.copy2(configuration, before)
        # Writing in place keeps owner, mode and links.
        configuration.write_text(new)
        print(f"{configuration} scrapes {', '.join(targets)} and loads {rules}; the previous file is {before}")
    print("Reload Prometheus: systemctl reload prometheus, or send it SIGHUP")


main()
