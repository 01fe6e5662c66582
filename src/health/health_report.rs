//! Builds the answer of `/health` from facts that were read at one moment.
//!
//! **Invariant:** pure; every problem is a sentence that advises the operator.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::journal;
use crate::lifecycle::Phase;
use crate::store::{Liveness, PoolState};
use crate::telemetry::connection_counts::ConnectionState;

/// The time in which a database that does not answer yet, while the first contact lasts, is not reported as
/// unavailable.
const FIRST_CONTACT: Duration = Duration::from_secs(3);

/// Bytes that the smallest group of records takes in a segment.
const LEAST_ROOM_BYTES: u64 = 4096;

/// The facts behind an answer, read at one moment.
#[derive(Clone, Debug)]
pub(crate) struct HealthReport {
    pub(crate) phase: Phase,
    pub(crate) journal: journal::JournalStatus,
    /// The last result of the check for liveness.
    pub(crate) liveness: Liveness,
    /// True if the writer's last contact with the database succeeded.
    pub(crate) writing: bool,
    /// True if the writer's first contact has neither succeeded nor failed yet.
    pub(crate) awaits_first_contact: bool,
    pub(crate) connections: ConnectionState,
    pub(crate) pools: [PoolState; 2],
    pub(crate) kind: &'static str,
    /// The writer's current problems.
    pub(crate) problems_found: Vec<String>,
    /// Notices for the operator that are not problems.
    pub(crate) notices: Vec<String>,
    pub(crate) uptime: Duration,
    pub(crate) now: SystemTime,
}

impl HealthReport {
    /// Returns the age in seconds of the oldest event that is not stored; 0 if all are stored.
    pub(crate) fn oldest_seconds(&self) -> f64 {
        let Some(received) = self.journal.oldest_unix_nano else {
            return 0.0;
        };
        let received = Duration::from_nanos(u64::try_from(received).unwrap_or(0));
        self.now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .saturating_sub(received)
            .as_secs_f64()
    }

    fn status(&self) -> HealthStatus {
        match self.phase {
            Phase::Broken | Phase::Announcing | Phase::Closing => HealthStatus::Unhealthy,
            Phase::Starting | Phase::Ready if self.is_sound() => HealthStatus::Ok,
            Phase::Starting | Phase::Ready => HealthStatus::Degraded,
        }
    }

    fn is_sound(&self) -> bool {
        self.liveness.database.is_some()
            && !self.liveness.replica_unavailable
            && self.writing
            && self.problems_found.is_empty()
            && !self.connections.is_short
            && self.journal.missing_records == 0
            && !self.journal.full
    }

    /// Returns the problems as sentences that advise the operator, most urgent first.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.journal.broken {
            problems.push(
                "writing to the journal failed: the process ends and recovers from what is on the disk; look at the disk of \
                 the data directory"
                    .to_owned(),
            );
        }
        if matches!(self.phase, Phase::Announcing | Phase::Closing) {
            problems.push("the service is stopping: send events elsewhere".to_owned());
        }
        if self.journal.full {
            problems.push(self.why_full());
        }
        if self.journal.missing_records > 0 {
            problems.push(format!(
                "{} in no file of the journal: a file was removed, emptied or cut short. Stop the service and put it back from a \
                 backup, if there is one; this is reported until the next start",
                are(self.journal.missing_records, "acknowledged record")
            ));
        }
        let damaged = self
            .journal
            .damaged_records
            .saturating_sub(self.journal.missing_records);
        if damaged > 0 {
            problems.push(format!(
                "{} damaged in the journal, to be kept as a dead letter each: check the disk of the data directory, run \
                 `ruvvector-service journal verify`, and keep the copies (.damaged) in its journal/; this is reported until the next start",
                are(damaged, "record")
            ));
        }
        if self.journal.undecided_records > 0 && !self.writing {
            problems.push(format!(
                "{} in no file of the journal, and lost unless the database holds what is missing. It is asked at the next contact; if \
                 a file was removed or emptied, stop the service and put it back from a backup before that",
                are(self.journal.undecided_records, "record")
            ));
        }
        let connects = self.awaits_first_contact && !self.writing;
        let is_unavailable =
            self.liveness.database.is_none() && !(connects && self.uptime < FIRST_CONTACT);
        if connects && !is_unavailable {
            problems.push(format!(
                "connecting to the database ({}) for the first time since {} s: events are kept in the journal meanwhile",
                self.kind,
                self.uptime.as_secs()
            ));
        }
        if is_unavailable {
            let meanwhile = if self.refuses() {
                ""
            } else {
                "events are taken and kept in the journal; "
            };
            let (what, advice) = match self.liveness.refusal {
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
        if self.liveness.replica_unavailable {
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
        problems.extend(self.problems_found.iter().cloned());
        problems.extend(self.notices.iter().cloned());
        problems
    }

    /// Returns whether every request is refused: there is no further segment, and the open one has no room for a group.
    fn refuses(&self) -> bool {
        self.journal.full && self.journal.open_room_bytes < LEAST_ROOM_BYTES
    }

    fn why_full(&self) -> String {
        let meanwhile = if self.refuses() {
            "new events are refused".to_owned()
        } else {
            format!(
                "new events are stored only while they fit into the last {} KiB of its open file",
                self.journal.open_room_bytes >> 10
            )
        };
        if !self.journal.at_floor {
            return format!(
                "the journal is full and {meanwhile}: let the database catch up, free space on the volume, or raise \
                 RUVVECTOR_JOURNAL_MAX_BYTES"
            );
        }
        // If the volume has no room even for a segment, a lower floor does not help.
        let lower = if self.journal.volume_free_bytes > self.journal.segment_bytes {
            ", or lower RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES"
        } else {
            ""
        };
        let mib = |bytes: u64| bytes >> 20;
        format!(
            "the volume of the journal has {} MiB free of {} MiB and {meanwhile}, as a further file of the journal takes \
             {} MiB with the space that stays free: free space on the volume{lower}",
            mib(self.journal.volume_free_bytes),
            mib(self.journal.volume_size_bytes),
            mib(self.journal.volume_needed_bytes)
        )
    }

    /// Returns the first problem, unless the status is ok.
    pub(crate) fn first_problem(&self) -> Option<String> {
        let is_ok = self.status() == HealthStatus::Ok;
        self.problems().into_iter().next().filter(|_| !is_ok)
    }

    pub(crate) fn body(&self) -> HealthBody {
        let [write, read] = self.pools.map(|pool| PoolBody::of(&[pool]));
        HealthBody {
            status: self.status(),
            accepting: self.phase == Phase::Ready && !self.refuses(),
            version: crate::telemetry::VERSION,
            uptime_seconds: self.uptime.as_secs(),
            database: DatabaseBody {
                kind: self.kind,
                connected: self.liveness.database.is_some(),
                latency_ms: self
                    .liveness
                    .database
                    .map(|took| round(took.as_secs_f64() * 1e3)),
            },
            pool: PoolBody::of(&self.pools),
            pools: PoolsBody { write, read },
            queue: QueueBody {
                events: self.journal.queue_events,
                bytes: self.journal.queue_bytes,
                capacity_bytes: self.journal.capacity_bytes,
                oldest_seconds: round(self.oldest_seconds()),
            },
            journal: JournalBody {
                io: self.journal.io.name(),
            },
            problems: self.problems(),
        }
    }
}

/// Formats a count with its verb: `1 record is`, `2 records are`.
fn are(n: u64, one: &str) -> String {
    let (end, verb) = if n == 1 { ("", "is") } else { ("s", "are") };
    format!("{n} {one}{end} {verb}")
}

/// Rounds to thousandths.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum HealthStatus {
    Ok,
    Degraded,
    Unhealthy,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HealthBody {
    pub(crate) status: HealthStatus,
    accepting: bool,
    version: &'static str,
    uptime_seconds: u64,
    database: DatabaseBody,
    pool: PoolBody,
    pools: PoolsBody,
    queue: QueueBody,
    journal: JournalBody,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DatabaseBody {
    kind: &'static str,
    connected: bool,
    /// Round trip of the last check, in milliseconds; `null` if there was no answer.
    latency_ms: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PoolBody {
    max: u32,
    size: u32,
    idle: u32,
    in_use: u32,
}

impl PoolBody {
    /// Adds up the pools.
    fn of(pools: &[PoolState]) -> Self {
        let sum = |count: fn(&PoolState) -> u32| pools.iter().map(count).sum();
        Self {
            max: sum(|pool| pool.max),
            size: sum(|pool| pool.size),
            idle: sum(|pool| pool.idle),
            in_use: sum(|pool| pool.size.saturating_sub(pool.idle)),
        }
    }
}

#[derive(Debug, Serialize)]
struct PoolsBody {
    write: PoolBody,
    read: PoolBody,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct QueueBody {
    events: u64,
    bytes: u64,
    capacity_bytes: u64,
    oldest_seconds: f64,
}

#[derive(Debug, Serialize)]
struct JournalBody {
    /// `direct` or `buffered`.
    io: &'static str,
}

#[cfg(test)]
mod tests;
