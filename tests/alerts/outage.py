"""Causes an outage and checks which alerts a real Prometheus fires, and which a real Alertmanager sends.

    scripts/check/outage.sh

Three instances run: PostgreSQL of the first is stopped under load, the second is killed, the third is killed again and again.
The rules of `alerts/` run 60 times as fast (`faster.py`), and so do scrapes, evaluations, the waits of Alertmanager and the
service's waits between attempts.

Invariant: no alert fires but those named here, and every acknowledged event is in the table.
"""

import contextlib
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time

from tests.alerts.faster import faster
from tests.alerts.receiver import alertmanager, receiver
from tests.common.ports import free_address
from tests.common.postgres import Database, cluster_url
from tests.common.servers import ask, process, prometheus, prometheus_answer, scrape
from tests.common.traffic import TRACE, resource, span

FACTOR = 60
# Makes the journal full within seconds, with requests that fit it.
SMALL = {"RUVVECTOR_JOURNAL_MAX_BYTES": "32MiB", "RUVVECTOR_OTLP_WIRE_BYTES": "1MiB", "RUVVECTOR_INGEST_WIRE_BYTES": "1MiB"}
SPANS = 50
PATIENCE_SECONDS = 60
# Longer than Alertmanager waits before it sends a notification.
NOTIFICATION_SECONDS = 2
# Alerts that a slow disk under the test may cause.
ALERTS_OF_SLOW_DISKS = {"RuvVectorSyncSlow", "RuvVectorAckLatencyBurn"}


class Load:
    """Sends spans and queries to one instance, `pace` requests a second, and counts the acknowledged spans."""

    def __init__(self, main):
        self.main, self.pace, self.acknowledged, self.refused, self.problem = main, 5, 0, 0, None
        spans = [{**span(1 + at, None, 5, 0, TRACE), "name": "x" * 200} for at in range(SPANS)]
        self.body = json.dumps(resource("outage", {"spans": spans}, "Spans")).encode()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.keep, args=[each], daemon=True) for each in [self.send, self.query]]

    def keep(self, each):
        for number in itertools.count(1):
            if self.ended.is_set():
                return
            try:
                each(number)
            except Exception as problem:
                self.problem = problem
                raise

    def send(self, number):
        # The requests differ, or the service would treat them as repeated.
        status, text = ask(f"{self.main}/v1/traces", self.body.replace(TRACE.encode(), b"%032x" % number))
        assert status in (200, 503), f"{status}: {text}"
        self.acknowledged += SPANS * (status == 200)
        self.refused += status == 503
        # Without a pace, sends as fast as possible.
        self.ended.wait(1 / self.pace if self.pace else 0)

    def query(self, number):
        status, text = ask(f"{self.main}/query?limit=1")
        assert status in (200, 503), f"{status}: {text}"
        self.ended.wait(0.5)

    def start(self):
        for thread in self.threads:
            thread.start()

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        assert not self.problem, self.problem


class Watch:
    """Watches the firing alerts of a Prometheus: (alert, instance, severity), now and with the time at which each began."""

    def __init__(self, job, address):
        self.job, self.address, self.began, self.now, self.zero = job, address, {}, set(), time.monotonic()

    def start(self):
        self.ended = threading.Event()
        threading.Thread(target=self.poll, daemon=True).start()
        return self.ended

    def poll(self):
        while not self.ended.wait(0.1):
            self.now = {
                (each["labels"]["alertname"], each["labels"].get("instance"), each["labels"]["severity"])
                for each in prometheus_answer(self.address, "alerts")["alerts"]
                if each["state"] == "firing"
            }
            for each in self.now - set(self.began):
                self.began[each] = time.monotonic() - self.zero
                self.say(" ".join(filter(None, [self.job, *each])) + " fires")

    def say(self, text):
        print(f"{time.monotonic() - self.zero:6.1f} s  {text}", flush=True)

    def until(self, event, condition):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s: {event}; firing: {sorted(map(str, self.now))}"
            time.sleep(0.1)
        self.say(event)


@contextlib.contextmanager
def instance(binary, **settings):
    """Runs an instance on a fixed address; yields the address and the functions that start and kill the instance."""
    address = free_address()
    settings["RUVVECTOR_SERVICE_PORT"] = address.split(":")[1]
    with tempfile.TemporaryDirectory(prefix="ruvvector-outage-") as directory, contextlib.ExitStack() as stack:
        children = []

        def start():
            children.append(stack.enter_context(process(binary, directory, **settings))[0])

        def kill():
            children[-1].send_signal(signal.SIGKILL)
            children[-1].wait()

        start()
        yield address, start, kill


def watched(job, targets, *alertmanagers):
    """Runs a Prometheus with the faster rules that scrapes `targets` as `job`."""
    configuration = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": ["*.rules.yml"],
        "alerting": {"alertmanagers": [scrape("", *alertmanagers)]},
        "scrape_configs": [scrape(job, *targets)],
    }
    del configuration["alerting"]["alertmanagers"][0]["job_name"]
    # By default, Prometheus looks back 5 minutes for a value.
    flags = [f"--query.lookback-delta={300 / FACTOR:g}s"]
    return prometheus(configuration, os.environ.get("PROMETHEUS", "prometheus"), faster(FACTOR), flags)


class Outage:
    """Holds the instances and their monitoring, and runs the steps of the outage in order."""

    def __init__(self, binary, url, enter):
        self.database = Database(url)
        scaled = {"RUVVECTOR_RETRY_MIN": "10ms", "RUVVECTOR_RETRY_MAX": "500ms", "RUVVECTOR_CONNECT_TIMEOUT": "1s"}
        store = {"RUVVECTOR_STORE": "postgres", "DATABASE_URL": url, **SMALL}
        self.cut, _, _ = enter(instance(binary, **store, **scaled))
        self.killed, self.start_killed, self.kill = enter(instance(binary, RUVVECTOR_STORE="sqlite"))
        self.looping, self.start_looping, self.kill_looping = enter(instance(binary, RUVVECTOR_STORE="sqlite"))
        url_of_receiver, self.notifications = enter(receiver())
        notifier = enter(alertmanager(os.environ.get("ALERTMANAGER", "prometheus-alertmanager"), url_of_receiver, FACTOR))
        self.watch = Watch("ruvvector", enter(watched("ruvvector", [self.cut, self.killed, self.looping], notifier)))
        # The job has another name: rules that need no name work, and one alert reports the wrong name.
        self.misnamed = Watch("telemetry", enter(watched("telemetry", [self.cut])))
        self.load = Load(f"http://{self.cut}")
        enter(contextlib.closing(self))
        self.watches = [self.watch.start(), self.misnamed.start()]
        self.load.start()

    def close(self):
        for each in [*self.watches, self.load.ended]:
            each.set()

    def fires(self, alert, of, severity="page"):
        self.watch.until(f"… {alert}", lambda: (alert, of, severity) in self.watch.now)

    def ends(self, alert, of=None, severity="page"):
        self.watch.until(f"{alert} is over", lambda: (alert, of, severity) not in self.watch.now)

    def pages(self):
        sent = [(alert, of or "") for alert, of, *status in self.notifications if status == ["page", "firing"]]
        return sorted(each for each in sent if each[0] not in ALERTS_OF_SLOW_DISKS)

    def paged(self, *wanted):
        """Waits until these pages, and no others, have been sent."""
        self.watch.until(f"{len(wanted)} pages", lambda: len(self.pages()) >= len(wanted))
        time.sleep(NOTIFICATION_SECONDS)
        assert self.pages() == sorted((alert, of or "") for alert, of in wanted), self.notifications

    def scraped(self):
        return len(prometheus_answer(self.watch.address, "query", query="ruvvector_ready")["result"])

    def starts_seen(self):
        query = f'changes(process_start_time_seconds{{instance="{self.looping}"}}[1m])'
        return sum(float(each["value"][1]) for each in prometheus_answer(self.watch.address, "query", query=query)["result"])

    def restart_loop(self):
        for number in [1, 2, 3]:
            self.kill_looping()
            # The metric of the start time has whole seconds.
            time.sleep(1)
            self.start_looping()
            self.watch.until(f"start {number} is seen", lambda: self.starts_seen() == number)

    def database_away(self):
        self.database.stop()
        self.fires("RuvVectorDatabaseUnavailable", self.cut)
        self.fires("RuvVectorWriteFailures", self.cut, "ticket")
        self.fires("RuvVectorQueueAge", self.cut)
        self.fires("RuvVectorReadPoolWait", self.cut, "ticket")

    def journal_fills(self):
        self.burst("a quarter of the journal waits", lambda queue: queue["bytes"] > 0.25 * queue["capacityBytes"])
        self.fires("RuvVectorQueueFilling", self.cut)
        self.burst("the journal is full", lambda _: self.load.refused > 0)
        self.fires("RuvVectorAvailabilityBurn", None)
        self.fires("RuvVectorRefusing", self.cut)

    def burst(self, event, condition):
        pace, self.load.pace = self.load.pace, None
        self.watch.until(event, lambda: condition(json.loads(ask(f"http://{self.cut}/health")[1])["queue"]))
        self.load.pace = pace

    def database_back(self):
        self.database.start()
        for alert in ["RuvVectorRefusing", "RuvVectorQueueFilling", "RuvVectorQueueAge", "RuvVectorDatabaseUnavailable"]:
            self.ends(alert, self.cut)
        for alert in ["RuvVectorWriteFailures", "RuvVectorReadPoolWait"]:
            self.ends(alert, self.cut, "ticket")
        self.load.end()
        stored = "SELECT count(*) FROM telemetry_events WHERE integration = 'outage'"
        self.watch.until("every event is stored", lambda: int(self.database.run(stored)) >= self.load.acknowledged)
        assert int(self.database.run(stored)) == self.load.acknowledged
        self.watch.say(f"{self.load.acknowledged} acknowledged and stored, {self.load.refused} requests refused")

    def run(self):
        self.watch.until("events are stored, and all are scraped", lambda: self.load.acknowledged > 1000 and self.scraped() == 3)
        time.sleep(NOTIFICATION_SECONDS)
        self.same(self.watch, set())
        self.kill()
        self.restart_loop()
        self.fires("RuvVectorRestartLoop", self.looping)
        self.fires("RuvVectorDown", self.killed)
        self.start_killed()
        self.ends("RuvVectorDown", self.killed)

        self.database_away()
        others = [("RuvVectorDown", self.killed), ("RuvVectorRestartLoop", self.looping)]
        away = ("RuvVectorDatabaseUnavailable", self.cut)
        # Four alerts fire, and one of them is sent.
        self.paged(*others, away)
        self.journal_fills()
        # These pages report how much time remains, and that events are lost.
        losing = [("RuvVectorQueueFilling", self.cut), ("RuvVectorAvailabilityBurn", None)]
        self.paged(*others, away, *losing)
        self.database_back()
        # The end of the outage sends no page.
        self.paged(*others, away, *losing)
        self.in_order()

    def in_order(self):
        """Checks the order in which alerts fired, and that no other fired."""
        order = [("RuvVectorDatabaseUnavailable", "page"), ("RuvVectorWriteFailures", "ticket"), ("RuvVectorQueueAge", "page")]
        order += [("RuvVectorQueueFilling", "page"), ("RuvVectorRefusing", "page")]
        began = [self.watch.began[alert, self.cut, severity] for alert, severity in order]
        assert began == sorted(began), self.watch.began
        wanted = {(alert, self.cut, severity) for alert, severity in order}
        wanted |= {("RuvVectorReadPoolWait", self.cut, "ticket"), ("RuvVectorDown", self.killed, "page")}
        job = {("RuvVectorAvailabilityBurn", None, severity) for severity in ["page", "ticket"]}
        restarts = {("RuvVectorRestartLoop", self.looping, "page")}
        self.same(self.watch, wanted | job | restarts)
        of_the_name = {("RuvVectorRefusing", self.cut, "page"), ("RuvVectorDown", self.killed, "page")}
        self.same(self.misnamed, wanted - of_the_name | {("RuvVectorAbsent", None, "page")})

    def same(self, watch, wanted):
        fired = {each for each in watch.began if each[0] not in ALERTS_OF_SLOW_DISKS}
        assert fired == wanted, f"unexpected: {fired - wanted}, missing: {wanted - fired}"


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        Outage(sys.argv[1], cluster_url(), stack.enter_context).run()
