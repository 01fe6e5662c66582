//! One batch to the database, and what each refusal means.
//!
//! **Invariant:** the log hears that a batch is stored only after the database has said so, and nothing goes to the dead
//! letters unless the database takes good rows.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge, histogram};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::batch::Built;
use super::progress::Concern;
use super::retry::Backoff;
use super::source::Cap;
use crate::event::Resource;
use crate::log::StreamId;
use crate::observe::metrics as names;
use crate::store::{Account, StoreError, StreamFacts};

/// Failures of one batch after which smaller ones are tried.
const PATIENCE: u32 = 3;

/// Refused rows of one batch after which smaller ones are tried: each costs a whole attempt.
const REFUSALS_A_BATCH: usize = 64;

/// Why a batch is not stored.
#[derive(Debug)]
pub(super) enum Failure {
    Store(StoreError),
    /// The database refuses some of it and does not say what: smaller batches will show.
    Smaller,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a batch counts for once it is stored.
struct Tally {
    stream: StreamId,
    positions: RangeInclusive<u64>,
    rows: u64,
    dead: Vec<(&'static str, u64)>,
}

impl Tally {
    fn of(built: &Built) -> Self {
        let letters = &built.batch.dead_letters;
        Self {
            stream: built.batch.stream,
            positions: built.batch.positions.clone(),
            rows: built.batch.rows.len() as u64,
            dead: letters
                .iter()
                .map(|letter| (letter.reason, u64::from(letter.events)))
                .collect(),
        }
    }
}

/// The side of the writer that speaks to the database.
pub(super) struct Writer {
    pub(super) shared: Shared,
    pub(super) backoff: Backoff,
    /// Positions lost from the account and from the log, reported once.
    pub(super) reported_gaps: HashMap<StreamId, Account>,
    pub(super) cap: Option<Cap>,
    /// The batch that failed last, by its first position, and how often.
    failing: Option<(StreamId, u64, u32)>,
    /// A batch whose COMMIT may have gone through though its answer was lost.
    in_doubt: Option<Tally>,
}

impl Writer {
    pub(super) fn new(shared: Shared) -> Self {
        Self {
            shared,
            backoff: Backoff::default(),
            reported_gaps: HashMap::new(),
            cap: None,
            failing: None,
            in_doubt: None,
        }
    }

    /// Commits the batch, if there is one, and marks it stored; then says `idle`.
    pub(super) async fn commit(
        &mut self,
        built: Option<Built>,
        idle: &CancellationToken,
    ) -> Result<(), Failure> {
        let _idle_at_the_end = idle.clone().drop_guard();
        let Some(mut built) = built else {
            return Ok(());
        };
        let began = Instant::now();
        match self.write(&mut built).await {
            Ok(()) => {
                self.committed(&Tally::of(&built));
                histogram!(names::WRITE_BATCH_SECONDS).record(began.elapsed().as_secs_f64());
                Ok(())
            }
            Err(failure) => {
                self.failed(&built, &failure);
                Err(failure)
            }
        }
    }

    async fn write(&mut self, built: &mut Built) -> Result<(), Failure> {
        let shared = self.shared.clone();
        let _turn = shared.turn.lock().await;
        self.write_resources(built).await?;
        let mut refusals = 0;
        let mut takes_good_rows = false;
        loop {
            match shared.store.write(&built.batch).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Refused {
                    sqlstate,
                    row,
                    message,
                }) => {
                    // A constraint that refuses everything may go between an attempt and the look at it: a row is at fault
                    // only when it is refused after a good one was taken.
                    if !takes_good_rows {
                        self.probe(&message).await?;
                        takes_good_rows = true;
                        continue;
                    }
                    refusals += 1;
                    if refusals > REFUSALS_A_BATCH && built.entries > 1 {
                        return Err(Failure::Smaller);
                    }
                    let row = row.filter(|&row| row < built.batch.rows.len());
                    match row {
                        Some(row) => built.refuse_row(row, sqlstate, message),
                        None if built.entries > 1 => return Err(Failure::Smaller),
                        None if built.batch.rows.is_empty() => {
                            return Err(wrong_setting(&message).into());
                        }
                        None => built.refuse_all(&sqlstate, &message),
                    }
                    // So many look like a setting of ours long before the last row is out.
                    let suspicious = refusals == REFUSALS_A_BATCH;
                    if suspicious || built.batch.rows.is_empty() {
                        self.probe(&message_of(built)).await?;
                    }
                }
                Err(error) => {
                    self.in_doubt = Some(Tally::of(built));
                    return Err(error.into());
                }
            }
        }
    }

    /// Some of the batch was refused: does the database take a good row?
    async fn probe(&self, refusal: &str) -> Result<(), StoreError> {
        match self.shared.store.probe().await {
            Err(StoreError::Refused { message, .. }) => Err(wrong_setting(&message)),
            Err(error) => Err(error),
            Ok(()) => {
                tracing::warn!(
                    refusal,
                    "the database refuses rows of a batch, and takes a good one"
                );
                Ok(())
            }
        }
    }

    /// Resources, and the stream's row, stand before the batch that refers to them.
    async fn write_resources(&self, built: &Built) -> Result<(), StoreError> {
        let facts = StreamFacts {
            stream: built.batch.stream,
            appended: *built.batch.positions.end(),
            oldest_unix_nano: self.shared.log.status().oldest_unix_nano,
        };
        let resources: Vec<Resource> = built.resources.values().cloned().collect();
        self.shared.store.write_resources(facts, &resources).await
    }

    fn committed(&mut self, tally: &Tally) {
        let (first, last) = (*tally.positions.start(), *tally.positions.end());
        let waited = self.shared.log.mark_stored(tally.stream, first, last);
        count(tally, waited);
        self.shared
            .progress
            .committed(tally.stream, first..=last, tally.rows);
        self.backoff.reset();
        self.failing = None;
        // What failed may have been the database's own trouble: batches grow again while they pass.
        self.cap = self
            .cap
            .filter(|cap| cap.stream != tally.stream || last < cap.until)
            .map(|cap| Cap {
                entries: cap.entries.saturating_mul(2),
                ..cap
            });
    }

    /// The account was read after a failure: was the batch in doubt committed after all?
    pub(super) fn settle_doubt(&mut self, stream: StreamId, account: &Account) {
        let Some(tally) = self.in_doubt.take_if(|tally| tally.stream == stream) else {
            return;
        };
        if account.missing(&tally.positions).is_empty() {
            self.committed(&tally);
        }
    }

    /// Notes that this batch failed, and makes the next ones smaller if it keeps failing.
    fn failed(&mut self, built: &Built, failure: &Failure) {
        let (stream, first) = (built.batch.stream, *built.batch.positions.start());
        let times = match self.failing {
            Some((s, n, times)) if s == stream && n == first => times + 1,
            _ => 1,
        };
        self.failing = Some((stream, first, times));
        let size_may_matter = match failure {
            Failure::Store(StoreError::Retry { class, .. }) => {
                !matches!(*class, "permission" | "schema")
            }
            _ => false,
        };
        let stubborn = times >= PATIENCE && size_may_matter;
        if !stubborn && !matches!(failure, Failure::Smaller) {
            return;
        }
        if built.entries > 1 {
            let last = *built.batch.positions.end();
            let until = self
                .cap
                .filter(|cap| cap.stream == stream)
                .map_or(last, |cap| cap.until.max(last));
            self.cap = Some(Cap {
                stream,
                until,
                entries: built.entries / 2,
            });
        }
    }

    /// After a failure: says what is wrong, and waits.
    pub(super) async fn after(&mut self, failure: Failure) {
        match failure {
            Failure::Smaller => {}
            Failure::Store(error) => {
                let lone = self.failing.filter(|&(stream, first, times)| {
                    times > PATIENCE
                        && self.cap.is_none_or(|cap| {
                            cap.stream == stream && cap.entries == 1 && first <= cap.until
                        })
                });
                let named = lone.map_or_else(String::new, |(stream, n, times)| {
                    format!(" (the batch at record {n} of stream {stream}, {times} times)")
                });
                self.pause(Concern::Write, &error, &named).await;
            }
        }
    }

    /// Counts a failure, names it in the problems, and waits before the next attempt.
    pub(super) async fn pause(&mut self, concern: Concern, error: &StoreError, named: &str) {
        let options = self.shared.options.clone();
        let class = match error {
            StoreError::Retry { class, .. } => *class,
            StoreError::Refused { .. } => "other",
            StoreError::AlreadyStored => "conflict",
            StoreError::Schema(_) => "schema",
        };
        counter!(names::WRITE_FAILURES_TOTAL, "class" => class).increment(1);
        if matches!(class, "connection" | "timeout") {
            self.shared.progress.set_connected(false);
        }
        let mut pause = self.backoff.pause(options.retry_min, options.retry_max);
        match error {
            StoreError::AlreadyStored => {
                tracing::info!(
                    "another collector stored some of these positions; reading the account again"
                );
            }
            _ => {
                if matches!(error, StoreError::Schema(_)) {
                    pause = options.retry_max;
                }
                let text = format!(
                    "nothing is written{named}, and the log keeps what is acknowledged: {error}"
                );
                tracing::warn!(class, "{text}");
                self.shared.progress.problem(concern, text);
            }
        }
        // A stop leaves time for one more attempt, not for the rest of a long pause.
        let stop = &self.shared.stop;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled(), if !stop.is_cancelled() => {}
        }
    }
}

/// What the log waited for and the database has now, as rows or as dead letters: so that the books balance whoever stored
/// it, `waited` is the log's own sum.
fn count(tally: &Tally, waited: u64) {
    let dead: u64 = tally.dead.iter().map(|(_, events)| events).sum();
    counter!(names::WRITE_EVENTS_TOTAL).increment(waited.saturating_sub(dead));
    for &(reason, events) in &tally.dead {
        counter!(names::DEAD_LETTERS_TOTAL, "reason" => reason).increment(events);
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "batches are far below 2^52 rows"
    )]
    histogram!(names::WRITE_BATCH_EVENTS).record(tally.rows as f64);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    gauge!(names::WRITE_LAST_SUCCESS_TIMESTAMP_SECONDS).set(now.as_secs_f64());
    if !tally.dead.is_empty() {
        let (first, last) = (*tally.positions.start(), *tally.positions.end());
        tracing::error!(stream = %tally.stream, first, last, events = dead,
            "events went to telemetry_dead_letters; their reason and payload stand there");
    }
}

fn message_of(built: &Built) -> String {
    built
        .batch
        .dead_letters
        .last()
        .map_or_else(String::new, |letter| letter.message.clone())
}

fn wrong_setting(message: &str) -> StoreError {
    StoreError::Retry {
        class: "schema",
        sqlstate: None,
        message: format!(
            "the database refuses even a harmless row: {message}; look for constraints and triggers on telemetry_events"
        ),
    }
}
