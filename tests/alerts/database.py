"""The PostgreSQL of `scripts/with-postgres.sh`, stopped and started again as its own administrator would.

Invariant: it comes back on the same port with the same options, and with what was committed.
"""

import os
import shlex
import subprocess


class Database:
    def __init__(self, url):
        self.url = url
        self.directory = self.ask("SHOW data_directory")
        with open(f"{self.directory}/postmaster.opts") as file:
            self.options = shlex.join(shlex.split(file.read())[3:])

    def ask(self, sql):
        command = ["psql", self.url, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", sql]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def control(self, *action):
        owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        program = os.path.join(os.environ["RUVVECTOR_TEST_POSTGRES_BIN"], "pg_ctl")
        command = [*owner, program, "-D", self.directory, "-w", *action]
        done = subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr

    def stop(self):
        self.control("-m", "fast", "stop")

    def start(self):
        self.control("-l", f"{self.directory}/../server.log", "-o", self.options, "start")
