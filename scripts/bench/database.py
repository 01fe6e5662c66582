"""A private PostgreSQL with databases of the service's schema and of the floor's.

Invariant: the server and its data are gone when the block ends, even if this process is killed.
"""

import contextlib
import os
import subprocess

from tests.common import ROOT
from tests.common.postgres import with_database
from tests.common.programs import until

FROZEN = ROOT / "scripts/bench/frozen"
# The columns of the frozen table that a row brings with it, in their order.
COLUMNS = (
    "timestamp, time_unix_nano, duration_ns, created_at, kind, flags, correlation_id, integration, provider, event_type, "
    "trace_id, span_id, parent_span_id, name, status, resource_id, metadata"
)
COPY_IN = f"COPY telemetry_events ({COLUMNS}) FROM STDIN (FORMAT binary)"
# Memory as an operator would configure it; the files of the write-ahead log stay, so that the first side does not pay for them.
OPTIONS = "-c shared_buffers=1GB -c max_wal_size=4GB -c min_wal_size=4GB"
WARM_UP_GIB = 3


class Postgres:
    def __init__(self, url, directory):
        self.url = url
        self.directory = directory
        self.made = 0

    def sql(self, url, *statements):
        """Runs statements, and returns the rows as psql prints them."""
        command = ["psql", url, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
        for statement in statements:
            command += ["--command", statement]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{statements}\n{done.stderr}")
        return done.stdout.strip()

    @contextlib.contextmanager
    def session(self, url, statements):
        """Runs statements in a session that ends with the block; yields a function that waits for a count above zero."""
        name = "bench-session"
        command = ["psql", url, "--no-psqlrc", "--quiet", "--command", statements]
        environment = {**os.environ, "PGAPPNAME": name}
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

        def await_count(question):
            until(question, lambda: int(self.sql(url, question)) or None)

        try:
            yield await_count
        finally:
            child.kill()
            child.wait()
            # The server would notice the closed connection only after the statement.
            self.sql(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'")

    def new_name(self):
        self.made += 1
        return f"bench_{self.made}"

    def url_of(self, name):
        return with_database(self.url, name)

    def create(self, name):
        self.sql(self.url, f"CREATE DATABASE {name}")
        return self.url_of(name)

    def drop(self, name):
        self.sql(self.url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "CHECKPOINT")

    @contextlib.contextmanager
    def database(self):
        """A database during the block; yields its URL. Both sides start right after a checkpoint."""
        name = self.new_name()
        url = self.create(name)
        self.sql(self.url, "CHECKPOINT")
        try:
            yield url
        finally:
            self.drop(name)

    @contextlib.contextmanager
    def floor(self, days_before=1):
        """A database with the frozen schema, its partitions from some days before today to tomorrow; yields its URL."""
        with self.database() as url:
            self.sql(url, (FROZEN / "postgres.sql").read_text())
            self.add_days(url, days_before)
            yield url

    def add_days(self, url, days_before):
        self.sql(
            url,
            f"""DO $$ DECLARE day date; BEGIN
                FOR day IN SELECT (now() AT TIME ZONE 'UTC')::date + n FROM generate_series(-{days_before}, 1) n LOOP
                    IF to_regclass(to_char(day, '"telemetry_events_"YYYYMMDD')) IS NULL THEN
                        EXECUTE format('CREATE TABLE %I PARTITION OF telemetry_events FOR VALUES FROM (%L) TO (%L)',
                            to_char(day, '"telemetry_events_"YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
                    END IF;
                END LOOP; END $$""",
        )

    def rows(self, url):
        return int(self.sql(url, "SELECT count(*) FROM telemetry_events"))

    def export(self, url, file, limit="ALL"):
        """Writes rows to a file of binary COPY."""
        self.sql(url, f"\\copy (SELECT {COLUMNS} FROM telemetry_events LIMIT {limit}) TO '{file}' (FORMAT binary)")

    def copy(self, url, file):
        self.sql(url, f"\\copy telemetry_events ({COLUMNS}) FROM '{file}' (FORMAT binary)")

    def warm_up(self):
        """Writes and removes gigabytes, so that the files of the write-ahead log exist and are recycled."""
        with self.database() as url:
            rows = WARM_UP_GIB * (1 << 20)
            fill = f"INSERT INTO warm_up SELECT repeat('x', 1000) FROM generate_series(1, {rows})"
            self.sql(url, "CREATE TABLE warm_up (text text)", fill, "CHECKPOINT")


@contextlib.contextmanager
def private_postgres(directory):
    """Runs a server during the block, warmed up; yields a `Postgres`."""
    # The server ends when standard input does, also if this process is killed.
    tell = 'printf "%s\\n" "$RUVVECTOR_TEST_POSTGRES_URL" && exec cat >/dev/null'
    command = [ROOT / "scripts/with-postgres.sh", "bash", "-c", tell]
    options = f"{OPTIONS} {os.environ.get('RUVVECTOR_TEST_POSTGRES_OPTIONS', '')}"
    environment = {**os.environ, "RUVVECTOR_TEST_POSTGRES_OPTIONS": options}
    # Ctrl-C ends this process, which then ends the server.
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        url = child.stdout.readline().strip()
        if not url:
            raise SystemExit("PostgreSQL did not start")
        postgres = Postgres(url, directory)
        postgres.warm_up()
        yield postgres
    finally:
        child.stdin.close()
        child.wait()
