"""Asks every question of the dashboards of the real thing: the binary given, PostgreSQL, and each Prometheus given.

    scripts/with-postgres.sh python3 tests/dashboards/live.py target/debug/ruvvector-service prometheus …

Invariant: a panel that would stay empty, or that would read whole partitions, is an error.
"""

import contextlib
import itertools
import os
import sys

import load
import promql
import sql
from servers import free_address, prometheus, scrape, service

binary, *programs = sys.argv[1:]
url = os.environ["RUVVECTOR_TEST_POSTGRES_URL"]


def watching(program, **jobs):
    """One that scrapes each target as its job, and itself, as a Prometheus does from the package on."""
    own = free_address()
    scrapes = [scrape(job, target) for job, target in {**jobs, "prometheus": own}.items()]
    return prometheus({"global": {"scrape_interval": "1s"}, "scrape_configs": scrapes}, program, address=own)


with contextlib.ExitStack() as stack:
    # Names that say nothing of the service: the dashboards need none.
    listeners = stack.enter_context(service(binary, url))
    lite = stack.enter_context(service(binary))
    jobs = {"telemetry": listeners["main"], "lite": lite["main"]}
    addresses = [stack.enter_context(watching(program, **jobs)) for program in programs]
    load.trace(listeners["main"])
    load.trace(lite["main"])
    problems, rounds = [], itertools.count(1)
    for address in addresses:
        print(promql.prometheus_answer(address, "status/buildinfo")["version"], flush=True)
        problems += [*promql.check(address, listeners, rounds), *promql.check_sqlite(address, lite, rounds, "lite")]
    problems += sql.check(url)
if problems:
    sys.exit("\n".join(problems))
print("every panel has data, and every plan an index")
