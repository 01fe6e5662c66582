"""The run that every target receives: builds to be measured, programs, directory, database and options.

Invariant: all files of a run are below one directory, which is removed when the run ends, however it ends.
"""

import contextlib
import dataclasses
import functools
import json
import subprocess

from scripts.bench.database import private_postgres
from tests.common import ROOT


@dataclasses.dataclass
class Build:
    """One build of the service; `name` is empty if there is only one."""

    name: str
    binary: str

    def label(self, text):
        return f"{text}, {self.name}" if self.name else text


@dataclasses.dataclass
class Bench:
    builds: list
    load: str
    directory: str
    options: object
    stack: contextlib.ExitStack
    lines: list = dataclasses.field(default_factory=list)
    raw: dict = dataclasses.field(default_factory=dict)
    made: int = 0

    def rounds(self, usual):
        return range(self.options.pairs or usual)

    def seconds(self, usual):
        return self.options.seconds or usual

    def path(self, name):
        """A new path below the directory of the run."""
        self.made += 1
        return f"{self.directory}/{self.made}-{name}"

    @functools.cached_property
    def postgres(self):
        """The private server, started and warmed up when a target first needs it."""
        self.say("starting PostgreSQL, and writing its first gigabytes")
        return self.stack.enter_context(private_postgres(self.directory))

    @functools.cached_property
    def collector(self):
        """The reference Collector's binary."""
        command = [ROOT / "scripts/tools/reference-collector.sh"]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def generate(self, command, **named):
        """Runs the load generator to its end, and returns its figures."""
        with self.generating(command, **named) as child:
            output, _ = child.communicate()
        if child.returncode != 0:
            raise SystemExit(f"the load generator failed: {command} {named}")
        return json.loads(output)

    @contextlib.contextmanager
    def generating(self, command, **named):
        """Runs the load generator beside the block, which reads its figures; it does not outlive the block."""
        arguments = [f"{name}={value}" for name, value in named.items()]
        child = subprocess.Popen([self.load, command, *arguments], stdout=subprocess.PIPE, text=True)
        try:
            yield child
        finally:
            child.kill()
            child.wait()

    def keep(self, target, side, figures):
        """Keeps raw figures for the JSON file, and prints them while the run goes on."""
        self.raw.setdefault(target, {}).setdefault(side, []).append(figures)
        shown = figures if isinstance(figures, dict) else {"": figures}
        self.say(f"  {side}: " + " ".join(f"{name}={value}".lstrip("=") for name, value in shown.items()))

    def add(self, line):
        line.trial = bool(self.options.is_trial)
        self.lines.append(line)
        print(line, flush=True)

    def say(self, text):
        print(text, flush=True)
