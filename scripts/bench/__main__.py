"""The command: reads the arguments, checks disk and programs, builds, runs the targets, and prints the table."""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile

from scripts.bench.bench import Bench, Build
from scripts.bench.result import table
from scripts.bench.targets import TARGETS
from tests.common import ROOT

ROWS = 10_000_000


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench/bench.sh")
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="targets of the list, `all` or `list`")
    parser.add_argument("--binary", metavar="FILE", help="measures this build of the service instead of building one")
    parser.add_argument("--against", metavar="FILE", help="measures this second build in the same run, alternately")
    parser.add_argument("--pairs", type=int, help="alternating rounds, instead of each target's number")
    parser.add_argument("--seconds", type=int, help="seconds of one measurement, instead of each target's")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the queries' data set (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="writes all raw figures to this file")
    options = parser.parse_args()
    options.is_trial = options.pairs or options.seconds or options.rows != ROWS
    if options.targets == ["all"]:
        options.targets = list(TARGETS)
    unknown = [name for name in options.targets if name not in TARGETS and name != "list"]
    if unknown:
        parser.error(f"unknown target {', '.join(unknown)}; `list` names all")
    for file in [options.binary, options.against]:
        if file and not os.access(file, os.X_OK):
            parser.error(f"{file} is no program")
    return options


def list_targets(rows):
    for target in TARGETS.values():
        print(f"{target.name:20} {target.disk_needed_gib(rows):>4.0f} GiB  {target.about}")


def check_disk(targets, rows):
    """Ends the run if a target needs more disk than there is."""
    needed = max(target.disk_needed_gib(rows) for target in targets)
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free / (1 << 30)
    print(f"needs up to {needed:.0f} GiB in {place}, which has {free:.0f} GiB free", flush=True)
    if free < needed:
        raise SystemExit("TMPDIR can name a directory on a larger disk")


def check_programs(targets):
    for program in sorted({program for target in targets for program in target.programs}):
        if not shutil.which(program):
            raise SystemExit(f"{program} is missing; install it with your system's package manager")


def build_service():
    print("building the service …", flush=True)
    subprocess.run(["cargo", "build", "--quiet", "--release"], cwd=ROOT, check=True)
    return str(ROOT / "target/release/ruvvector-service")


def build_load():
    """Builds the load generator and returns the path of its executable."""
    print("building the load generator …", flush=True)
    command = ["cargo", "bench", "--quiet", "--no-run", "--message-format=json", "--bench", "load"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in built.splitlines() if line.startswith("{")]
    return next(m["executable"] for m in messages if m.get("target", {}).get("name") == "load" and m.get("executable"))


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown CPU")
    psql = subprocess.run(["psql", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{os.cpu_count()} cores of {model}, {platform.system()} {platform.release()}, {psql}"


def main():
    options = arguments()
    if "list" in options.targets:
        return list_targets(options.rows)
    targets = [TARGETS[name] for name in options.targets]
    check_disk(targets, options.rows)
    check_programs(targets)
    builds = [Build("", os.path.abspath(options.binary or build_service()))]
    if options.against:
        builds = [Build("this build", builds[0].binary), Build("the other build", os.path.abspath(options.against))]
    load = build_load()
    # A signal ends the run as an exception, so that every block cleans up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ruvvector-bench-"))
        bench = Bench(builds, load, directory, options, stack)
        print(machine(), flush=True)
        for target in targets:
            print(f"\n{target.name}: {target.about}", flush=True)
            target.run(bench)
        print(f"\n{machine()}\n\n{table(bench.lines)}", flush=True)
        if options.json:
            with open(options.json, "w") as file:
                lines = [vars(line) for line in bench.lines]
                json.dump({"machine": machine(), "lines": lines, "raw": bench.raw}, file, indent=1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
