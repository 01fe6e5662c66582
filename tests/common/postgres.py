"""A database of the PostgreSQL that `scripts/with-postgres.sh` runs.

Invariant: `start` brings the server back on the same port with the same options and all that was committed.
"""

import functools
import os
import shlex
import subprocess
import urllib.parse

from tests.common.programs import run


def cluster_url():
    """Returns the URL of the superuser's database."""
    return os.environ["RUVVECTOR_TEST_POSTGRES_URL"]


def with_database(url, name):
    """Returns the URL of another database on the same server."""
    return urllib.parse.urlsplit(url)._replace(path=f"/{name}").geturl()


def psql(url, sql):
    """Runs SQL, each statement by itself, until one fails; returns the exit code and psql's outputs."""
    quiet = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
    return run("psql", url, *quiet, input=sql)


class Database:
    def __init__(self, url):
        self.url = url

    def run(self, sql):
        """Returns the rows as psql prints them, a line each; an error of the server ends the test."""
        done = psql(self.url, sql)
        assert done.returncode == 0, f"{sql}\n{done.stderr}"
        return done.stdout.strip()

    @functools.cached_property
    def directory(self):
        return self.run("SHOW data_directory")

    @functools.cached_property
    def options(self):
        """The options of the running server, as pg_ctl takes them."""
        with open(f"{self.directory}/postmaster.opts") as file:
            return shlex.join(shlex.split(file.read())[3:])

    def control(self, *action):
        owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        program = os.path.join(os.environ["RUVVECTOR_TEST_POSTGRES_BIN"], "pg_ctl")
        command = [*owner, program, "-D", self.directory, "-w", *action]
        # A server that pg_ctl starts inherits standard output and would keep a pipe open.
        done = subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr

    def stop(self):
        """Stops the server as an administrator does, and remembers how to start it again."""
        assert self.options
        self.control("-m", "fast", "stop")

    def start(self):
        self.control("-l", f"{self.directory}/../server.log", "-o", self.options, "start")
