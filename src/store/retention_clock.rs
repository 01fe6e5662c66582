//! Judges the clocks of retention, and doubts them if they disagree: a wrong clock must not remove acknowledged events.
//!
//! The doubt is kept in the store, so that neither a restart nor another collector loses it. Time spent in doubt is
//! measured by clocks that cannot be set.
//!
//! **Invariant:** pure; while a clock is doubted nothing is removed for `QUIET_US`, and after that at most one day's
//! events in each `PACE_US` of time that has really passed.

use std::fmt;
use std::sync::Arc;

use crate::store::plausible_time::DAY_US;

const HOUR_US: i64 = 3_600_000_000;

/// Maximum difference of two clocks that agree.
const TOLERANCE_US: i64 = HOUR_US;

/// Time after the begin of a doubt in which nothing is removed.
const QUIET_US: i64 = HOUR_US;

/// Time in doubt between the removals of two days.
const PACE_US: i64 = 24 * HOUR_US;

/// This machine's clocks, read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Unix time in microseconds.
    pub unix_us: i64,
    /// Microseconds since the machine booted, suspended time included (CLOCK_BOOTTIME). This clock cannot be set.
    pub boot_us: i64,
}

/// The source of the time; tests pass their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> ClockReading + Send + Sync>);

impl Clock {
    /// Returns this machine's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| {
            let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            ClockReading {
                unix_us: jiff::Timestamp::now().as_microsecond(),
                boot_us: boot.tv_sec * 1_000_000 + boot.tv_nsec / 1_000,
            }
        })
    }

    pub fn new(read: impl Fn() -> ClockReading + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    #[must_use]
    pub fn read(&self) -> ClockReading {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The reason for a doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubtReason {
    /// The clock was set while the process ran.
    Set,
    /// The database's clock differs from this machine's.
    Differs,
    /// At the start the clock was more than a day past the newest time of receipt.
    Gap,
}

impl DoubtReason {
    /// Returns the name that the store keeps.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Differs => "differs",
            Self::Gap => "gap",
        }
    }

    /// Parses such a name. An unknown name, of a later version, is a doubt, too.
    fn of(name: &str) -> Self {
        match name {
            "set" => Self::Set,
            "differs" => Self::Differs,
            _ => Self::Gap,
        }
    }

    /// Describes the reason in words.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Set => {
                "the clock of a collector was set by more than an hour against the time that passed since its start"
            }
            Self::Differs => {
                "the clocks of the database and of a collector differ by more than an hour"
            }
            Self::Gap => {
                "at a start the clock was more than a day past the newest event that was ever received"
            }
        }
    }
}

impl<Driver: sqlx::Database> sqlx::Type<Driver> for DoubtReason
where
    str: sqlx::Type<Driver>,
{
    fn type_info() -> Driver::TypeInfo {
        <str as sqlx::Type<Driver>>::type_info()
    }

    fn compatible(column: &Driver::TypeInfo) -> bool {
        <str as sqlx::Type<Driver>>::compatible(column)
    }
}

impl<'r, Driver: sqlx::Database> sqlx::Decode<'r, Driver> for DoubtReason
where
    &'r str: sqlx::Decode<'r, Driver>,
{
    fn decode(value: Driver::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        <&str>::decode(value).map(Self::of)
    }
}

/// The one row that the store keeps. There is none before retention was first applied, or SQLite's file first opened
/// with one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Doubt {
    /// The reason for the doubt; `None` if the clocks are trusted.
    pub reason: Option<DoubtReason>,
    /// Microseconds spent in all doubts together.
    pub waited_us: i64,
    /// The value of `waited_us` when the current doubt began.
    pub began_us: i64,
    /// The value of `waited_us` when a day was last granted for removal.
    pub granted_us: Option<i64>,
    /// That day's end, Unix microseconds.
    pub granted_before_us: Option<i64>,
    /// Number of times that an operator has confirmed the clock.
    pub confirmations: i64,
}

/// The facts by which the clocks are judged.
#[derive(Clone, Copy, Debug)]
pub struct ClockFacts {
    pub now: ClockReading,
    /// Unix microseconds by the store's own clock.
    pub store_us: i64,
    pub retention_days: u32,
    /// Unix microseconds at which the oldest day of the store ends.
    pub oldest_day_end_us: Option<i64>,
    /// Unix microseconds of the newest receive time in the store from before the start, if
    /// [`RetentionClock::asks_for_newest`] requires it.
    pub newest_stored_us: Option<i64>,
}

/// The consequences for one round of retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Must be kept in the store before anything is removed.
    pub doubt: Doubt,
    /// Unix microseconds. Events received before this may be removed; `None` if none may.
    pub remove_before_us: Option<i64>,
    /// A sentence for `/health` while there is a doubt.
    pub notice: Option<String>,
}

/// The clocks of one process since its start, and the doubt that it raised.
#[derive(Debug)]
pub struct RetentionClock {
    start: ClockReading,
    /// The last reading at which the wall clock was trusted.
    base: ClockReading,
    newest_journaled_us: Option<i64>,
    /// `Some(true)` = the start is doubted, in each round until the store has kept the doubt; `None` = not judged yet.
    gap: Option<bool>,
    /// The doubt that this process last returned, and the time of that, by [`ClockReading::boot_us`].
    last_returned: Option<(Doubt, i64)>,
    /// The reason of the doubt that this process raised.
    raised: Option<DoubtReason>,
}

impl RetentionClock {
    /// Creates a clock. `newest_journaled_us` is the newest receive time in the journal at the start, Unix
    /// microseconds.
    #[must_use]
    pub const fn new(start: ClockReading, newest_journaled_us: Option<i64>) -> Self {
        Self {
            start,
            base: start,
            newest_journaled_us,
            gap: None,
            last_returned: None,
            raised: None,
        }
    }

    /// Creates the clock of a process that starts.
    #[must_use]
    pub fn of(start: &crate::store::ProcessStart) -> Self {
        let newest = start.newest_journaled_unix_nano;
        Self::new(
            start.clock.read(),
            newest.map(|nano| nano.div_euclid(1_000)),
        )
    }

    /// Returns whether the next judgement includes the start, and therefore needs [`ClockFacts::newest_stored_us`].
    #[must_use]
    pub const fn asks_for_newest(&self, kept: Option<Doubt>) -> bool {
        self.gap.is_none() && kept.is_some()
    }

    /// Returns the reading at the start.
    #[must_use]
    pub const fn start(&self) -> ClockReading {
        self.start
    }

    /// Judges the clocks. `kept` is the store's row.
    pub fn judge(&mut self, kept: Option<Doubt>, facts: ClockFacts) -> Judgement {
        let first_use = kept.is_none();
        let mut doubt = kept.unwrap_or_default();
        if let Some((returned, _)) = self.last_returned
            && returned.confirmations != doubt.confirmations
        {
            self.base = facts.now;
            self.raised = None;
            self.gap = Some(false);
        }
        self.count_time(&mut doubt, facts.now.boot_us);
        self.judge_start(facts, first_use);
        if doubt.reason.is_some() {
            self.gap = Some(false);
        }
        let found = self.reason(facts);
        match (found, doubt.reason) {
            (Some(reason), None) => {
                doubt.reason = Some(reason);
                doubt.began_us = doubt.waited_us;
                self.raised = Some(reason);
            }
            // The clock is right again. Only the process that saw it change can decide that.
            (None, Some(reason)) if self.raised == Some(reason) && reason != DoubtReason::Gap => {
                doubt.reason = None;
                self.raised = None;
            }
            _ => {}
        }
        let cutoff_us = facts.store_us - i64::from(facts.retention_days) * DAY_US;
        let remove_before_us = match doubt.reason {
            None => Some(cutoff_us),
            Some(_) => grant(&mut doubt, cutoff_us, facts.oldest_day_end_us),
        };
        self.last_returned = Some((doubt, facts.now.boot_us));
        Judgement {
            doubt,
            remove_before_us,
            notice: doubt.reason.map(|reason| notice(reason, &doubt)),
        }
    }

    /// Counts the time in doubt. Several collectors count the same time, so the highest count is right.
    fn count_time(&self, doubt: &mut Doubt, boot_us: i64) {
        if let Some((returned, at_us)) = self.last_returned
            && doubt.reason.is_some()
            && returned.reason.is_some()
            && returned.began_us == doubt.began_us
        {
            let counted_us = returned.waited_us + (boot_us - at_us).max(0);
            doubt.waited_us = doubt.waited_us.max(counted_us);
        }
    }

    /// Judges the start, once. The first use of a retention raises no doubt, since it may find old events.
    fn judge_start(&mut self, facts: ClockFacts, first_use: bool) {
        if self.gap.is_some() {
            return;
        }
        let started_us = facts.store_us - (facts.now.boot_us - self.start.boot_us);
        let newest_us = self.newest_journaled_us.max(facts.newest_stored_us);
        let is_far = newest_us.is_some_and(|newest_us| started_us - newest_us > DAY_US);
        self.gap = Some(is_far && !first_use);
    }

    fn reason(&self, facts: ClockFacts) -> Option<DoubtReason> {
        let now = facts.now;
        let passed_us = now.boot_us - self.base.boot_us;
        if differ(facts.store_us - now.unix_us) {
            return Some(DoubtReason::Differs);
        }
        if differ(now.unix_us - self.base.unix_us - passed_us) {
            return Some(DoubtReason::Set);
        }
        (self.gap == Some(true)).then_some(DoubtReason::Gap)
    }
}

/// Returns whether two clocks that are `apart_us` apart disagree.
#[must_use]
pub const fn differ(apart_us: i64) -> bool {
    apart_us.saturating_abs() > TOLERANCE_US
}

/// Returns the time before which events may be removed in doubt: the end of the day that was granted last. Grants the
/// next day once it is due.
fn grant(doubt: &mut Doubt, cutoff_us: i64, oldest_day_end_us: Option<i64>) -> Option<i64> {
    if doubt.waited_us - doubt.began_us < QUIET_US {
        return None;
    }
    let is_open = |granted_us: i64| doubt.waited_us - granted_us < PACE_US;
    if !doubt.granted_us.is_some_and(is_open) {
        let end_us = oldest_day_end_us.filter(|end_us| end_us - DAY_US < cutoff_us)?;
        doubt.granted_us = Some(doubt.waited_us);
        doubt.granted_before_us = Some(end_us);
    }
    doubt
        .granted_before_us
        .map(|before_us| before_us.min(cutoff_us))
}

fn notice(reason: DoubtReason, doubt: &Doubt) -> String {
    let quiet_us = QUIET_US - (doubt.waited_us - doubt.began_us);
    let meanwhile = if quiet_us > 0 {
        format!(
            "nothing is removed for another {} min, and then at most one day's events in 24 h",
            quiet_us.div_euclid(60_000_000) + 1
        )
    } else {
        "at most one day's events are removed in 24 h".to_owned()
    };
    format!(
        "retention doubts the clock: {}; {meanwhile}. See that the clocks are right, then run `ruvvector-service retention confirm-clock`",
        reason.sentence()
    )
}

#[cfg(test)]
mod tests;
