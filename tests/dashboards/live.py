"""Asks every question of the dashboards of the real thing: the binary given, PostgreSQL, and Prometheus.

    scripts/with-postgres.sh python3 tests/dashboards/live.py target/debug/ruvvector-service

Invariant: a panel that would stay empty, or that would read whole partitions, is an error.
"""

import contextlib
import os
import sys

import load
import promql
import sql
from servers import prometheus, scrape, service

url = os.environ["RUVVECTOR_TEST_POSTGRES_URL"]
with contextlib.ExitStack() as stack:
    listeners = stack.enter_context(service(sys.argv[1], url))
    scrapes = [scrape("ruvvector", listeners["main"])]
    address = stack.enter_context(prometheus({"global": {"scrape_interval": "1s"}, "scrape_configs": scrapes}))
    load.trace(listeners["main"])
    problems = [*promql.check(address, listeners), *sql.check(url)]
if problems:
    sys.exit("\n".join(problems))
print("every panel has data, and every plan an index")
