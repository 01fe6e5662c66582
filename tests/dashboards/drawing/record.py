"""Sends some minutes of a shop's traffic to the service, stops PostgreSQL for a part of them, and records what each panel shows.

    scripts/tools/draw-dashboards.sh

Invariant: every number in the pictures is the answer of a real Prometheus or PostgreSQL to the panel's own query.
"""

import itertools
import json
import math
import random
import re
import sys
import threading
import time

from tests.common.postgres import Database, cluster_url
from tests.common.servers import ask, prometheus, prometheus_answer, scrape, service
from tests.common.traffic import round_of, send
from tests.dashboards.boards import POSTGRES, PROMETHEUS, boards, panels
from tests.dashboards.expressions import all_of, substituted

SCRAPE_SECONDS = 2
STEP_SECONDS = 2
# Shares of the whole time after which PostgreSQL stops and starts again.
AWAY, BACK = 0.45, 0.65
# Service, span, its usual milliseconds, the index of its parent, and the share of spans that fail.
STEPS = [
    ("shop", "POST /orders", 90, None, 0.01),
    ("shop", "SELECT stock", 6, 0, 0),
    ("billing", "POST /charges", 55, 0, 0.02),
    ("billing", "card network", 40, 2, 0.03),
    ("mail", "send confirmation", 20, 0, 0.005),
]


def attributes(**values):
    return [{"key": key, "value": {"stringValue": str(value)}} for key, value in values.items()]


def of_service(name, signal, items):
    inner = {"Spans": "spans", "Logs": "logRecords", "Metrics": "metrics"}[signal]
    return {"resource": {"attributes": attributes(**{"service.name": name})}, f"scope{signal}": [{inner: items}]}


def order(chance):
    """Returns the spans and logs of one order's trace, by service."""
    trace, ids = f"{chance.getrandbits(128):032x}", [f"{chance.getrandbits(64):016x}" for _ in STEPS]
    now, pace = time.time_ns(), chance.lognormvariate(0, 0.35)
    spans, logs, at = {}, {}, 0
    for number, (service_, name, usual, parent, risk) in enumerate(STEPS):
        length = usual * pace * chance.lognormvariate(0, 0.2)
        start = now + int(1e6 * at)
        at += 2 if parent is None or number == 2 else length if parent == 0 else 5
        failed = chance.random() < risk
        spans.setdefault(service_, []).append(
            {
                "traceId": trace,
                "spanId": ids[number],
                **({"parentSpanId": ids[parent]} if parent is not None else {}),
                "name": name,
                "kind": 3 if "network" in name or "SELECT" in name else 2,
                "startTimeUnixNano": str(start),
                "endTimeUnixNano": str(start + int(1e6 * length)),
                "attributes": attributes(**{"order.items": chance.randint(1, 9), "server.address": f"{service_}-1"}),
                "status": {"code": 2, "message": "the card was refused"} if failed else {"code": 1},
            }
        )
        if failed or number == 0:
            body = f"{name} failed after {length:.0f} ms" if failed else "order received"
            record = {"timeUnixNano": str(start), "traceId": trace, "spanId": ids[number], "body": {"stringValue": body}}
            logs.setdefault(service_, []).append({**record, "severityNumber": 17 if failed else 9})
    return spans, logs


def traffic(listeners, ended):
    """Sends orders over OTLP and as native events until `ended`."""
    chance, otlp, main = random.Random(4317), listeners["otlp_http"], listeners["main"]
    for number in itertools.count(1):
        if ended.wait(0.1):
            return
        spans, logs = {}, {}
        # The number of orders varies by the minute.
        for _ in range(chance.randint(8, 14) + int(6 * (1 + math.sin(number / 90)))):
            for into, found in zip((spans, logs), order(chance)):
                for service_, items in found.items():
                    into.setdefault(service_, []).extend(items)
        send(f"{otlp}/v1/traces", {"resourceSpans": [of_service(*each) for each in group(spans, "Spans")]}, 200)
        send(f"{otlp}/v1/logs", {"resourceLogs": [of_service(*each) for each in group(logs, "Logs")]}, 200)
        event = {"correlationId": f"order-{number}", "integration": "shop", "eventType": "order.created", "metadata": {"n": number}}
        send(f"{main}/ingest", [event] * chance.randint(1, 5), 200)


def readers(listeners, ended):
    """Sends queries and all other kinds of requests, so that no order waits for them."""
    for number in itertools.count(1):
        if ended.wait(0.5):
            return
        there = ask(f"{listeners['main']}/query?integration=shop&limit=50")[0] == 200
        if there and number % 4 == 0:
            round_of(listeners, number)


def group(found, signal):
    return [(name, signal, items) for name, items in found.items()]


def range_of(address, target, chosen, start, end):
    """Yields each series of a panel's target: its name, and its points of time and number."""
    expression = substituted(target["expr"].replace("$__rate_interval", f"{5 * SCRAPE_SECONDS}s"), chosen)
    answer = prometheus_answer(address, "query_range", query=expression, start=start, end=end, step=STEP_SECONDS)
    for series in answer["result"]:
        name = re.sub(r"\{\{(\w+)\}\}", lambda found: series["metric"].get(found[1], ""), target["legendFormat"])
        yield {"name": name, "points": [[at, float(value)] for at, value in series["values"]]}


def table_of(address, target, chosen, end):
    answer = prometheus_answer(address, "query", query=substituted(target["expr"], chosen), time=end)
    return [{**series["metric"], "Value": float(series["value"][1])} for series in answer["result"]]


def rows_of(reader, panel, start, end, trace):
    """Returns the rows that Grafana would receive for the panel's SQL."""
    text = panel["targets"][0]["rawSql"]
    text = re.sub(r"\$__unixEpochGroup\(([^,]*), \$__interval\)", r"floor((\1)/5)*5", text)
    values = {"$__from": int(1000 * start), "$__to": int(1000 * end), "$integration": "integration"}
    for name, value in {**values, "${trace_id:sqlstring}": f"'{trace}'"}.items():
        text = text.replace(name, str(value))
    assert "$" not in text, text
    return json.loads(reader.run(f"SELECT coalesce(json_agg(t), '[]') FROM ({text}) t"))


def record(address, reader, start, end):
    chosen = all_of(address, None)
    failed = "SELECT trace_id FROM telemetry_events WHERE event_type = 'span' AND status = 'ERROR' AND integration = 'billing' LIMIT 1"
    trace = reader.run(failed).strip()
    shown = {}
    for name, board in boards().items():
        for panel in panels(board):
            kind, targets = panel["datasource"]["type"], panel["targets"]
            if kind == POSTGRES:
                data = rows_of(reader, panel, start, end, trace)
            elif panel["type"] == "table":
                data = table_of(address, targets[0], chosen, end)
            else:
                data = [series for target in targets for series in range_of(address, target, chosen, start, end)]
            assert kind in (POSTGRES, PROMETHEUS)
            shown[f"{name}: {panel['title']}"] = data
    return {"start": start, "end": end, "trace": trace, "panels": shown}


def main():
    binary, program, seconds, path = sys.argv[1:]
    seconds, url = float(seconds), cluster_url()
    small = {"RUVVECTOR_JOURNAL_MAX_BYTES": "64MiB", "RUVVECTOR_OTLP_WIRE_BYTES": "4MiB", "RUVVECTOR_INGEST_WIRE_BYTES": "4MiB"}
    ended = threading.Event()
    with service(binary, url, RUVVECTOR_SERVICE_PORT="0", **small) as listeners:
        configuration = {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s"},
            "scrape_configs": [scrape("ruvvector", listeners["main"])],
        }
        with prometheus(configuration, program) as address:
            senders = [threading.Thread(target=each, args=[listeners, ended], daemon=True) for each in [traffic, readers]]
            for sender in senders:
                sender.start()
            database = Database(url)
            time.sleep(5 * SCRAPE_SECONDS)
            start = time.time()
            time.sleep(AWAY * seconds)
            database.stop()
            time.sleep((BACK - AWAY) * seconds)
            database.start()
            time.sleep((1 - BACK) * seconds)
            end = time.time()
            assert all(sender.is_alive() for sender in senders), "a sender has ended"
            data = record(address, database, start, end)
            ended.set()
            for sender in senders:
                sender.join()
    with open(path, "w") as file:
        json.dump(data, file)


main()
