"""Runs other programs: to their end, or for as long as a `with` block lasts.

Invariant: no program outlives the block that started it.
"""

import contextlib
import subprocess
import time

PATIENCE_SECONDS = 60
RUN_SECONDS = 120
STOP_SECONDS = 20


def until(condition, attempt):
    """Returns the first answer of `attempt` that is not None; `condition` names it in the error of a timeout."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := attempt()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_SECONDS} s: {condition}")
        time.sleep(0.2)
    return answer


def run(*command, **options):
    """Runs a program to its end and returns its exit code and outputs."""
    command = [str(part) for part in command]
    return subprocess.run(command, **{"capture_output": True, "text": True, "timeout": RUN_SECONDS, **options})


def must(*command, **options):
    """Returns what a program writes to standard output; a failure ends the test with all of its output."""
    done = run(*command, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def running(command, log, **options):
    """Runs a program during the block, its outputs in the file `log`; SIGTERM ends it."""
    with open(log, "wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, **options)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
