"""Runs all `sh` blocks of a document in one bash, and the blocks that continue in the background.

Invariant: no process of a block outlives `close`; a block that hangs is ended and fails.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass

PATIENCE_SECONDS = 60
GRACE_SECONDS = 20
# Reads the mode and the file of a block, a line each, and answers with the block's exit code or its process id. The failure of
# a block that may not fail ends the shell, as it would end a script.
LOOP = r"""
set -Eeuo pipefail
trap 'printf "line %s of the block: %s\n" "$LINENO" "$BASH_COMMAND" >&2' ERR
while IFS= read -r __mode && IFS= read -r __file; do
    case $__mode in
    run)
        { . "$__file"; } </dev/null >"$__file.out" 2>"$__file.err"
        echo 0
        ;;
    fails)
        set +e
        (set -e; . "$__file") </dev/null >"$__file.out" 2>"$__file.err"
        __code=$?
        set -e
        echo "$__code"
        ;;
    background)
        set -m
        (set +m; . "$__file") </dev/null >"$__file.out" 2>"$__file.err" &
        set +m
        echo "$!"
        ;;
    esac
done
"""


@dataclass
class Outcome:
    """Exit code and outputs of a block; `code` is None if it hung."""

    code: int | None
    out: str
    err: str


class Shell:
    def __init__(self, directory, environment):
        self.directory, self.environment = directory, environment
        self.files = f"{directory}/.blocks"
        os.makedirs(self.files, exist_ok=True)
        self.count = 0
        self.background = []
        self.process = subprocess.Popen(
            ["bash", "--norc", "-c", LOOP],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self, text, mode="run"):
        file = self.write(text)
        answer = self.ask(mode, file)
        return Outcome(answer, *self.outputs(file))

    def start(self, text):
        """Starts a block in the background; returns its file, beside which its outputs are written, and its process id."""
        file = self.write(text)
        pid = self.ask("background", file)
        self.background.append(pid)
        return file, pid

    def write(self, text):
        self.count += 1
        file = f"{self.files}/{self.count}"
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(text)
        return file

    def ask(self, mode, file):
        """Returns the number that the shell answers, its exit code if it ended, or None after `PATIENCE_SECONDS`."""
        try:
            self.process.stdin.write(f"{mode}\n{file}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return self.process.wait()
        if not select.select([self.process.stdout], [], [], PATIENCE_SECONDS)[0]:
            return None
        line = self.process.stdout.readline()
        # A block that calls `exit 0` leaves no shell for the next one.
        return int(line) if line else self.process.wait()

    @staticmethod
    def outputs(file):
        texts = []
        for name in (f"{file}.out", f"{file}.err"):
            try:
                with open(name, encoding="utf-8", errors="replace") as opened:
                    texts.append(opened.read())
            except FileNotFoundError:
                texts.append("")
        return texts

    def end_background(self):
        """Ends the background blocks as a supervisor would: by SIGTERM, and by SIGKILL after `GRACE_SECONDS`."""
        for pid in self.background:
            signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while any(alive(pid) for pid in self.background) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in self.background:
            signal_group(pid, signal.SIGKILL)
        self.background.clear()

    def close(self):
        self.end_background()
        signal_group(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def signal_group(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def alive(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True
