"""Runs every query of the dashboards on the real service, a real PostgreSQL, and each Prometheus that is named.

    scripts/with-postgres.sh python3 -m tests.dashboards.live target/debug/ruvvector-service prometheus …

Invariant: a panel that would stay empty, or that would read whole partitions, is an error.
"""

import contextlib
import itertools
import sys

from tests.common import traffic
from tests.common.ports import free_address
from tests.common.postgres import cluster_url
from tests.common.servers import prometheus, prometheus_answer, scrape, service
from tests.dashboards import expressions, sql

binary, *programs = sys.argv[1:]
url = cluster_url()


def watching(program, **jobs):
    """Runs a Prometheus that scrapes each target as its job, and itself, as the package's configuration does."""
    own = free_address()
    scrapes = [scrape(job, target) for job, target in {**jobs, "prometheus": own}.items()]
    return prometheus({"global": {"scrape_interval": "1s"}, "scrape_configs": scrapes}, program, address=own)


with contextlib.ExitStack() as stack:
    # The dashboards do not depend on the names of the jobs.
    listeners = stack.enter_context(service(binary, url))
    lite = stack.enter_context(service(binary))
    jobs = {"telemetry": listeners["main"], "lite": lite["main"]}
    addresses = [stack.enter_context(watching(program, **jobs)) for program in programs]
    traffic.trace(listeners["main"])
    traffic.trace(lite["main"])
    problems, rounds = [], itertools.count(1)
    for address in addresses:
        print(prometheus_answer(address, "status/buildinfo")["version"], flush=True)
        problems += [*expressions.check(address, listeners, rounds), *expressions.check_sqlite(address, lite, rounds, "lite")]
    problems += sql.check(url)
if problems:
    sys.exit("\n".join(problems))
print("every panel has data, and every plan an index")
