"""Runs the commands and queries of the documents, and looks up the names in them.

    scripts/with-postgres.sh python3 -m tests.docs.run [--show] BINARY [DOCUMENT…]

Invariant: each block is run, or it is checked and counted with the reason why it is not run; none is ignored.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time

from tests.common import ROOT
from tests.common.postgres import cluster_url
from tests.common.programs import until
from tests.common.promql import problems_of
from tests.common.servers import prometheus_answer
from tests.docs import markdown, roles
from tests.docs.blocks import parse_problem, reach_problem
from tests.docs.markdown import Problem
from tests.docs.references import tree
from tests.docs.shared import everything
from tests.docs.shell import PATIENCE_SECONDS, Outcome, Shell, alive
from tests.docs.world import World

PROMETHEUS_PATIENCE_SECONDS = 20
SHOWN_LINES = 30
# Number of documents that run at once. Most of a document's time is spent waiting for a server or a scrape.
AT_ONCE = 4
# Prints each block's output, for authors of documents.
SHOW = "--show" in sys.argv
# The numbers of the documents' databases.
NUMBERS = itertools.count(1)


class Run:
    """The run of one document; `counts` records its kinds of blocks."""

    def __init__(self, document, tools, counts, number):
        self.document, self.tools, self.counts = document, tools, counts
        self.problems = [*document.problems, *tools.lookup.check(document, lambda kind: counts.update([("looked up", kind)]))]
        self.world = World(document, tools, number)
        self.shell = None
        self.last = Outcome(0, "", "")

    def all(self):
        try:
            with self.world as world:
                self.blocks(world)
        except (AssertionError, OSError, subprocess.CalledProcessError) as error:
            self.problems.append(Problem(self.document.path, 1, f"its world failed: {error}"))
        return self.problems

    def blocks(self, world):
        blocks = self.document.blocks
        with contextlib.ExitStack() as later:
            if any(block.runs for block in blocks):
                world.start()
                self.shell = Shell(world.directory, world.environment)
                later.callback(self.shell.close)
                later.enter_context(self.tools.targets.scraped(world.main))
            for at, block in enumerate(blocks):
                if block.language not in markdown.LANGUAGES:
                    continue
                problem = self.one(block, world.put(block.text))
                if problem:
                    self.say(block, problem)
                    if block.runs:
                        rest = sum(one.runs for one in blocks[at + 1 :])
                        if rest:
                            self.say(block, f"the {rest} blocks after it were not run")
                        break

    def say(self, block, text):
        self.problems.append(Problem(self.document.path, block.line, text))

    def one(self, block, text):
        """Runs or checks one block; returns its error, or None."""
        # An output with an omission is not JSON.
        if not (block.output and "…" in text) and (problem := parse_problem(block, text, self.tools)):
            return problem
        if block.copy and (problem := self.copied(block)):
            return problem
        if block.language == "promql":
            if problem := self.names(text):
                return problem
        if block.needs:
            self.counts["only checked", f"needs {block.needs}"] += 1
            return None
        if block.file:
            with open(self.path(block.file), "w", encoding="utf-8") as file:
                file.write(text)
            if roles.made(block.text):
                self.counts["run", "a file that makes roles"] += 1
                return roles.problem_of_file(self.world, block.text)
            self.counts["only checked", "a file"] += 1
            return None
        if block.output:
            self.counts["compared", "outputs"] += 1
            return self.compare(text)
        if not block.runs:
            self.counts["only checked", block.language] += 1
            return None
        if block.language == "sh" and (problem := reach_problem(text.replace(self.world.directory, ""))):
            return problem
        self.counts["run", block.language] += 1
        problem = getattr(self, block.language)(block, text) or roles.problem(self.world, text)
        if SHOW:
            print(f"{block.path}:{block.line}: {block.language} ended with {self.last.code}\n{shown(self.last)}")
        return problem

    def copied(self, block):
        """Returns the error of a block that does not show lines of its file, or None."""
        self.counts["compared", "files"] += 1
        try:
            with open(f"{self.tools.root}/{block.copy}", encoding="utf-8") as file:
                there = f"\n{file.read()}"
        except OSError as error:
            return f"no file to compare with: {error}"
        return None if f"\n{block.text}" in there else f"{block.copy} has no such lines in a row"

    def path(self, name):
        path = os.path.join(self.world.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def judge(self, block, outcome):
        """Checks an outcome by the block's directives; returns the error, or None."""
        self.last = outcome
        output = shown(outcome)
        if outcome.code is None:
            return f"the block did not end in time\n{output}"
        if block.fails is False and outcome.code != 0:
            return f"the block ended with {outcome.code}\n{output}"
        if block.fails is not False and (outcome.code == 0 or block.fails not in (True, outcome.code)):
            wanted = "an error" if block.fails is True else block.fails
            return f"the block should end with {wanted}, and ended with {outcome.code}\n{output}"
        missing = self.missing(block, outcome.out)
        return f"its output does not show {missing}\n{output}" if missing else None

    def missing(self, block, output):
        """Returns the first expectation that the output does not meet, or None."""
        flat = flatten(output)
        for kind, text in block.expects:
            text = self.world.put(text)
            if not (flatten(text) in flat if kind == "text" else re.search(text, flat, re.MULTILINE)):
                return repr(text) if kind == "text" else f"/{text}/"
        return None

    def compare(self, text):
        """Compares the document's output with that of the block before; returns the error, or None."""
        flat, at = flatten(self.last.out), 0
        for line in filter(str.strip, text.split("\n")):
            pattern = ".*".join(map(re.escape, flatten(line).strip().split("…")))
            found = re.compile(pattern).search(flat, at)
            if not found:
                return f"the block before does not print {line.strip()!r} here\n{shown(self.last)}"
            at = found.end()
        return None

    def sh(self, block, text):
        if block.background:
            return self.background(block, text)
        self.world.settle()
        return self.judge(block, self.shell.run(text, "fails" if block.fails is not False else "run"))

    def background(self, block, text):
        if block.background == "instead":
            self.shell.end_background()
        file, pid = self.shell.start(text)

        def missing():
            self.last = Outcome(0, *self.shell.outputs(file))
            return self.missing(block, self.last.out + self.last.err)

        with contextlib.suppress(TimeoutError):
            until("", lambda: None if alive(pid) and missing() else True)
        problem = missing()
        return f"in the background, its output does not show {problem}\n{shown(self.last)}" if problem else None

    def python(self, block, text):
        self.world.settle()
        return self.judge(block, self.program([f"{self.world.directory}/.path/python", "-"], text))

    def sql(self, block, text):
        self.world.settle()
        if self.world.sqlite:
            command = ["python3", f"{ROOT}/tests/docs/sqlite.py", f"{self.world.data}/telemetry.db"]
        else:
            command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-P", "pager=off", "-f", "-", self.world.url]
        return self.judge(block, self.program(command, text))

    def program(self, command, text):
        world = self.world
        try:
            done = subprocess.run(
                command,
                input=text.encode(),
                capture_output=True,
                cwd=world.directory,
                env=world.environment,
                timeout=PATIENCE_SECONDS,
            )
        except subprocess.TimeoutExpired as late:
            return Outcome(None, text_of(late.stdout), text_of(late.stderr))
        return Outcome(done.returncode, text_of(done.stdout), text_of(done.stderr))

    def promql(self, block, text):
        deadline = time.monotonic() + PROMETHEUS_PATIENCE_SECONDS
        while True:
            try:
                lines = [line for query in queries(text) for line in series_of(self.tools.prometheus, query)]
            except AssertionError as error:
                return str(error)
            problem = self.judge(block, Outcome(0, "\n".join(lines), ""))
            if not problem or time.monotonic() > deadline:
                return problem
            time.sleep(0.3)

    def names(self, text):
        """Returns the names in queries that no page of metrics and no rule has, or None."""
        series, recorded = self.tools.series, self.tools.recorded
        return "; ".join(each for query in queries(text) for each in problems_of("the query", query, series, recorded)) or None


def text_of(output):
    return (output or b"").decode(errors="replace")


def flatten(text):
    return re.sub(r" $", "", re.sub(r"[ \t]+", " ", text), flags=re.MULTILINE)


def shown(outcome):
    """Returns the last lines of both outputs, indented."""
    lines = []
    for name, text in [("output", outcome.out), ("errors", outcome.err)]:
        if text.strip():
            lines += [f"  {name}:", *(f"    {line}" for line in text.rstrip().split("\n")[-SHOWN_LINES:])]
    return "\n".join(lines) or "  it printed nothing"


def queries(text):
    """Returns the queries of a block: each begins a line and continues on the indented lines below it."""
    plain = re.sub(r"#.*", "", text)
    return [re.sub(r"\s+", " ", query).strip() for query in re.split(r"\n(?=\S)", plain) if query.strip()]


def series_of(address, query):
    data = prometheus_answer(address, "query", query=query)
    if data["resultType"] in ("scalar", "string"):
        return [data["result"][1]]
    lines = []
    for series in data["result"]:
        labels = dict(series["metric"])
        name = labels.pop("__name__", "")
        values = series.get("values") or [series["value"]]
        inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        lines.append(f"{name}{{{inner}}} " + " ".join(value for _, value in values))
    return lines


def inline_queries(document):
    """Yields line and text of each query in a document's prose; a metric's name alone is no query."""
    for line, span in markdown.code_spans(document.text):
        asks = re.match(r"[a-z_]+\s*(by|without)?\s*\(.*[)\]}\w]$|ruvvector_\w+\{.*\}$", span)
        if asks and re.search(r"\bruvvector_\w+", span):
            yield line, span.replace("\\|", "|")


def check(path, text, tools, number):
    """Returns the problems of one document, and the counts of its blocks."""
    counts = collections.Counter()
    document = markdown.parse(path, text)
    problems = Run(document, tools, counts, number).all()
    for line, query in inline_queries(document):
        counts["run", "promql in text"] += 1
        try:
            prometheus_answer(tools.prometheus, "query", query=query)
        except AssertionError as error:
            problems.append(Problem(path, line, str(error)))
    return problems, counts


def check_all(texts, tools):
    """Returns problems and counts of each document, given by path and text, in their order."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        tasks = [pool.submit(check, path, text, tools, next(NUMBERS)) for path, text in texts]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            # Documents in progress stop their servers; no other document begins.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def main():
    # Lets `with` blocks end what they started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    binary, *named = (word for word in sys.argv[1:] if word != "--show")
    binary = os.path.abspath(binary)
    paths = named or [path for path in tree(ROOT) if path.endswith(".md")]
    counts, problems = collections.Counter(), []
    with everything(binary, cluster_url()) as tools:
        if not named:
            from tests.docs import self_test

            self_test.hold(tools, check_all)
        texts = []
        for path in paths:
            with open(f"{ROOT}/{path}", encoding="utf-8") as file:
                texts.append((path, file.read()))
        for found, done in check_all(texts, tools):
            problems += found
            counts += done
    for problem in problems:
        print(problem, file=sys.stderr)
    for what in dict.fromkeys(what for what, _ in counts):
        kinds = sorted((kind, count) for (one, kind), count in counts.items() if one == what)
        print(f"{what}: {sum(count for _, count in kinds)} ({', '.join(f'{kind} {count}' for kind, count in kinds)})")
    print(f"{len(paths)} documents, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
