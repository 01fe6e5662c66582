//! The answer of `/health`, from facts taken at one moment.
//!
//! **Invariant:** pure; every problem is a sentence that says what to do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::connection_counts::ConnectionState;
use super::readiness::Phase;
use crate::log;
use crate::store::{PoolState, Pulse};

/// The facts behind an answer, taken at one moment.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) phase: Phase,
    pub(super) log: log::Status,
    /// The last signs of life.
    pub(super) pulse: Pulse,
    /// Whether the writer's last contact with the database went well.
    pub(super) writing: bool,
    pub(super) connections: ConnectionState,
    pub(super) pools: [PoolState; 2],
    pub(super) kind: &'static str,
    /// What stands in the writer's way.
    pub(super) obstacles: Vec<String>,
    /// What somebody should know, though nothing is in the way.
    pub(super) notices: Vec<String>,
    pub(super) uptime: Duration,
    pub(super) now: SystemTime,
}

impl Report {
    /// Age of the oldest event that is not stored; 0 when all are.
    pub(super) fn oldest_seconds(&self) -> f64 {
        let Some(received) = self.log.oldest_unix_nano else {
            return 0.0;
        };
        let received = Duration::from_nanos(u64::try_from(received).unwrap_or(0));
        self.now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .saturating_sub(received)
            .as_secs_f64()
    }

    fn status(&self) -> Status {
        match self.phase {
            Phase::Broken | Phase::Draining => Status::Unhealthy,
            Phase::Starting | Phase::Ready => {
                let sound = self.pulse.database.is_some()
                    && !self.pulse.replica_away
                    && self.writing
                    && self.obstacles.is_empty()
                    && !self.connections.is_short
                    && self.log.missing_records == 0
                    && !self.log.full;
                if sound { Status::Ok } else { Status::Degraded }
            }
        }
    }

    /// Sentences that say what is wrong and what to do, the most urgent first.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.log.broken {
            problems.push(
                "writing to the log failed: the process ends and recovers from what is on the disk; look at the disk of \
                 the data directory"
                    .to_owned(),
            );
        }
        if self.phase == Phase::Draining {
            problems.push("the service is stopping: send events elsewhere".to_owned());
        }
        if self.log.full {
            problems.push(self.why_full());
        }
        if self.log.missing_records > 0 {
            problems.push(format!(
                "{} in no file of the log: a file was removed, emptied or cut short. Stop the service and put it back from a \
                 backup, if there is one; this is reported until the next start",
                are(self.log.missing_records, "acknowledged record")
            ));
        }
        let damaged = self
            .log
            .damaged_records
            .saturating_sub(self.log.missing_records);
        if damaged > 0 {
            problems.push(format!(
                "{} damaged in the log, to be kept as a dead letter each: check the disk of the data directory, run \
                 `ruvvector-service log verify`, and keep the copies (.damaged) in its log/; this is reported until the next start",
                are(damaged, "record")
            ));
        }
        if self.log.undecided_records > 0 && !self.writing {
            problems.push(format!(
                "{} in no file of the log, and lost unless the database holds what is missing. It is asked at the next contact; if \
                 a file was removed or emptied, stop the service and put it back from a backup before that",
                are(self.log.undecided_records, "record")
            ));
        }
        if self.pulse.database.is_none() {
            let meanwhile = if self.log.full {
                ""
            } else {
                "events are taken and kept in the log; "
            };
            let (what, advice) = match self.pulse.refusal {
                Some(advice) => ("takes no connection", advice),
                None if self.kind == "sqlite" => (
                    "does not answer",
                    "look at the disk of its file, and at other processes that have the file open",
                ),
                None => (
                    "does not answer",
                    "look at the database and the network to it",
                ),
            };
            problems.push(format!(
                "the database ({}) {what}: {meanwhile}{advice}",
                self.kind
            ));
        }
        if self.pulse.replica_away {
            problems.push(
                "the replica that RUVVECTOR_DATABASE_READ_URL names does not answer: queries fail, and events are written \
                 without it; look at the replica and the network to it"
                    .to_owned(),
            );
        }
        if self.connections.is_short {
            problems.push(format!(
                "all {} places for connections were taken within the last minute: others waited or were answered 503, and \
                 those at rest are ended to make room; raise RUVVECTOR_CONNECTIONS, or look who holds so many open",
                self.connections.max
            ));
        }
        problems.extend(self.obstacles.iter().cloned());
        problems.extend(self.notices.iter().cloned());
        problems
    }

    fn why_full(&self) -> String {
        if !self.log.at_floor {
            return "the log is full and new events are refused: let the database catch up, free space on the volume, or \
                    raise RUVVECTOR_LOG_MAX_BYTES"
                .to_owned();
        }
        let mib = |bytes: u64| bytes >> 20;
        format!(
            "the volume of the log has {} MiB free of {} MiB and new events are refused, as a further file of the log takes \
             {} MiB with the space that stays free: free space on the volume, or lower RUVVECTOR_LOG_FREE_FLOOR_BYTES",
            mib(self.log.volume_free_bytes),
            mib(self.log.volume_size_bytes),
            mib(self.log.volume_needed_bytes)
        )
    }

    /// What keeps the status from being ok.
    pub(super) fn first_problem(&self) -> Option<String> {
        match self.status() {
            Status::Ok => None,
            Status::Degraded | Status::Unhealthy => self.problems().into_iter().next(),
        }
    }

    pub(super) fn body(&self) -> Body {
        let [write, read] = self.pools.map(Pool::from);
        Body {
            status: self.status(),
            accepting: self.phase == Phase::Ready && !self.log.full,
            version: super::VERSION,
            uptime_seconds: self.uptime.as_secs(),
            database: Database {
                kind: self.kind,
                connected: self.pulse.database.is_some(),
                latency_ms: self
                    .pulse
                    .database
                    .map(|took| round(took.as_secs_f64() * 1e3)),
            },
            pool: write.plus(read),
            pools: Pools { write, read },
            queue: Queue {
                events: self.log.queue_events,
                bytes: self.log.queue_bytes,
                capacity_bytes: self.log.capacity_bytes,
                oldest_seconds: round(self.oldest_seconds()),
            },
            problems: self.problems(),
        }
    }
}

/// `1 record is`, `2 records are`.
fn are(n: u64, one: &str) -> String {
    let (end, verb) = if n == 1 { ("", "is") } else { ("s", "are") };
    format!("{n} {one}{end} {verb}")
}

/// To thousandths.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Status {
    Ok,
    Degraded,
    Unhealthy,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    pub(super) status: Status,
    accepting: bool,
    version: &'static str,
    uptime_seconds: u64,
    database: Database,
    pool: Pool,
    pools: Pools,
    queue: Queue,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Database {
    kind: &'static str,
    connected: bool,
    /// Of the last ping; `null` when there was no answer.
    latency_ms: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pool {
    max: u32,
    size: u32,
    idle: u32,
    in_use: u32,
}

impl Pool {
    fn plus(self, other: Self) -> Self {
        Self {
            max: self.max + other.max,
            size: self.size + other.size,
            idle: self.idle + other.idle,
            in_use: self.in_use + other.in_use,
        }
    }
}

impl From<PoolState> for Pool {
    fn from(state: PoolState) -> Self {
        Self {
            max: state.max,
            size: state.size,
            idle: state.idle,
            in_use: state.size.saturating_sub(state.idle),
        }
    }
}

#[derive(Debug, Serialize)]
struct Pools {
    write: Pool,
    read: Pool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    events: u64,
    bytes: u64,
    capacity_bytes: u64,
    oldest_seconds: f64,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{ConnectionState, Report, Status};
    use crate::log;
    use crate::observe::readiness::Phase;
    use crate::store::{PoolState, Pulse};

    /// A report with nothing wrong, a day after the epoch.
    fn sound() -> Report {
        Report {
            phase: Phase::Ready,
            log: log::Status {
                capacity_bytes: 4096,
                ..log::Status::default()
            },
            pulse: Pulse {
                database: Some(Duration::from_micros(1_234)),
                refusal: None,
                replica_away: false,
            },
            writing: true,
            pools: [
                PoolState {
                    max: 2,
                    size: 2,
                    idle: 1,
                },
                PoolState {
                    max: 8,
                    size: 3,
                    idle: 3,
                },
            ],
            connections: ConnectionState::default(),
            kind: "postgres",
            obstacles: Vec::new(),
            notices: Vec::new(),
            uptime: Duration::from_secs(7),
            now: UNIX_EPOCH + Duration::from_secs(86_400),
        }
    }

    #[test]
    fn the_answer_has_the_promised_shape() {
        let mut report = sound();
        report.log.queue_events = 5;
        report.log.queue_bytes = 640;
        report.log.oldest_unix_nano = Some(86_390 * 1_000_000_000);
        let text = serde_json::to_string(&report.body()).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            text,
            format!(r#"{{"status":"ok","accepting":true,"version":"{version}","uptimeSeconds":7,"#)
                + r#""database":{"kind":"postgres","connected":true,"latencyMs":1.234},"#
                + r#""pool":{"max":10,"size":5,"idle":4,"inUse":1},"#
                + r#""pools":{"write":{"max":2,"size":2,"idle":1,"inUse":1},"#
                + r#""read":{"max":8,"size":3,"idle":3,"inUse":0}},"#
                + r#""queue":{"events":5,"bytes":640,"capacityBytes":4096,"oldestSeconds":10.0},"#
                + r#""problems":[]}"#
        );
    }

    #[test]
    fn an_absent_database_and_a_full_log_degrade_and_say_what_to_do() {
        let mut away = sound();
        away.pulse.database = None;
        away.writing = false;
        let body = away.body();
        assert_eq!(body.status, Status::Degraded);
        assert!(body.accepting, "events are taken without the database");
        assert!(body.problems[0].contains("does not answer"));

        let mut full = sound();
        full.log.full = true;
        let body = full.body();
        assert_eq!(body.status, Status::Degraded);
        assert!(!body.accepting);
        assert!(body.problems[0].contains("RUVVECTOR_LOG_MAX_BYTES"));

        full.pulse.database = None;
        let both = full.body().problems.join("\n");
        assert!(both.contains("refused") && both.contains("does not answer"));
        assert!(!both.contains("events are taken"), "{both}");
    }

    /// Only the read pool was asked: with the replica away, `/health` and an alert at night told of a database that had gone.
    #[test]
    fn an_absent_replica_is_no_absent_database() {
        let mut report = sound();
        report.pulse.replica_away = true;
        let body = report.body();
        assert_eq!(body.status, Status::Degraded);
        assert!(body.accepting && body.database.connected);
        assert_eq!(body.problems.len(), 1);
        assert!(
            body.problems[0]
                .contains("RUVVECTOR_DATABASE_READ_URL names does not answer: queries fail")
        );
    }

    /// With every place for a connection taken nothing was answered, and nothing said why.
    #[test]
    fn a_shortage_of_places_for_connections_degrades_and_says_what_to_do() {
        let mut report = sound();
        report.connections = ConnectionState {
            open: 2048,
            max: 2048,
            is_short: true,
        };
        let body = report.body();
        assert_eq!(body.status, Status::Degraded);
        assert!(body.accepting);
        assert!(body.problems[0].contains("all 2048 places"));
        assert!(body.problems[0].contains("RUVVECTOR_CONNECTIONS"));
    }

    /// Damage that a start had found stood in a log line alone.
    #[test]
    fn damaged_records_are_named_with_what_to_do() {
        let mut report = sound();
        (report.log.damaged_records, report.log.missing_records) = (5, 2);
        let problems = report.body().problems;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[1].starts_with("3 records are damaged in the log"),
            "{problems:?}"
        );
    }

    /// A service with SQLite was told to look at the network.
    #[test]
    fn an_embedded_database_has_no_network() {
        let mut report = sound();
        (report.kind, report.pulse.database) = ("sqlite", None);
        let problem = &report.body().problems[0];
        assert!(
            problem.contains("disk") && !problem.contains("network"),
            "{problem}"
        );
    }

    #[test]
    fn a_broken_log_and_draining_are_unhealthy() {
        let mut broken = sound();
        broken.phase = Phase::Broken;
        broken.log.broken = true;
        assert_eq!(broken.body().status, Status::Unhealthy);
        assert_eq!(broken.body().problems.len(), 1);

        let mut draining = sound();
        draining.phase = Phase::Draining;
        assert_eq!(draining.body().status, Status::Unhealthy);
        assert!(!draining.body().accepting);
    }

    #[test]
    fn a_warning_is_told_and_changes_nothing() {
        let mut warned = sound();
        warned.notices.push("mind the data directory".to_owned());
        let body = warned.body();
        assert_eq!(body.status, Status::Ok);
        assert_eq!(body.problems, ["mind the data directory"]);
    }
}
