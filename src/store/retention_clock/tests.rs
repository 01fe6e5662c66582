use crate::store::retention_clock::{
    ClockFacts, ClockReading, DAY_US, Doubt, DoubtReason, HOUR_US, Judgement, RetentionClock,
};

const START_US: i64 = 1_000 * DAY_US;
const RETENTION_DAYS: u32 = 7;

/// A process, its store's row, and a store whose oldest day ended some days before the start.
struct Life {
    clock: RetentionClock,
    kept: Option<Doubt>,
    oldest_day_end_us: i64,
}

impl Life {
    /// Begins after earlier processes that trusted their clocks.
    fn new() -> Self {
        Self {
            clock: RetentionClock::new(reading(START_US, 0), None),
            kept: Some(Doubt::default()),
            oldest_day_end_us: START_US - 20 * DAY_US,
        }
    }

    /// Judges the clocks `passed_us` after the start, with a wall clock that is off by `off_us`.
    fn judge(&mut self, passed_us: i64, off_us: i64) -> Judgement {
        self.judge_against(passed_us, off_us, off_us)
    }

    fn judge_against(&mut self, passed_us: i64, off_us: i64, store_off_us: i64) -> Judgement {
        let judgement = self.clock.judge(
            self.kept,
            ClockFacts {
                now: reading(START_US + passed_us + off_us, passed_us),
                store_us: START_US + passed_us + store_off_us,
                retention_days: RETENTION_DAYS,
                oldest_day_end_us: Some(self.oldest_day_end_us),
                newest_stored_us: Some(START_US - HOUR_US),
            },
        );
        self.kept = Some(judgement.doubt);
        judgement
    }

    /// Starts another process on the same store, with new clocks.
    fn restart(&mut self) {
        self.clock = RetentionClock::new(reading(START_US, 0), None);
    }
}

const fn reading(unix_us: i64, boot_us: i64) -> ClockReading {
    ClockReading { unix_us, boot_us }
}

/// A clock that was ten days ahead for one round removed all events.
#[test]
fn a_clock_that_was_set_removes_nothing_and_is_trusted_once_it_is_back() {
    for off_us in [10 * DAY_US, -10 * DAY_US, HOUR_US + 1] {
        let mut life = Life::new();
        assert_eq!(
            life.judge(0, 0).remove_before_us,
            Some(START_US - 7 * DAY_US)
        );
        let set = life.judge(60_000_000, off_us);
        assert_eq!(set.doubt.reason, Some(DoubtReason::Set), "{off_us}");
        assert_eq!(set.remove_before_us, None);
        let notice = set.notice.expect("it is said");
        assert!(notice.contains("retention confirm-clock"), "{notice}");
        let back = life.judge(120_000_000, 0);
        assert_eq!(back.doubt.reason, None);
        assert!(back.remove_before_us.is_some() && back.notice.is_none());
    }
}

#[test]
fn an_hours_difference_is_no_doubt() {
    let mut life = Life::new();
    assert_eq!(life.judge(0, HOUR_US).doubt.reason, None);
    assert_eq!(life.judge_against(1, 0, -HOUR_US).doubt.reason, None);
}

/// A server's clock that was nine days ahead for 8 s dropped a day.
#[test]
fn a_databases_clock_that_differs_removes_nothing_until_it_agrees() {
    let mut life = Life::new();
    let ahead = life.judge_against(0, 0, 9 * DAY_US);
    assert_eq!(ahead.doubt.reason, Some(DoubtReason::Differs));
    assert_eq!(ahead.remove_before_us, None);
    assert_eq!(life.judge(8_000_000, 0).doubt.reason, None);
}

/// A clock that was behind at boot, and was then corrected, removed within seconds the events received in between.
#[test]
fn in_doubt_nothing_goes_for_an_hour_and_then_a_day_in_24_hours_whatever_restarts() {
    let mut life = Life::new();
    life.judge(0, 0);
    // The clock is corrected by twenty days, and nothing reverses that.
    let off_us = 20 * DAY_US;
    let (mut removed, mut since_removal, mut hours) = (0, None, 0);
    let mut passed_us = 1;
    life.judge(passed_us, off_us);
    while hours < 24 * 4 {
        // The process restarts every five hours, after which the clock seems right.
        if hours % 5 == 4 {
            life.restart();
            passed_us = 0;
            life.judge(passed_us, off_us);
        }
        passed_us += HOUR_US;
        hours += 1;
        let judgement = life.judge(passed_us, off_us);
        assert!(judgement.doubt.reason.is_some(), "after {hours} h");
        since_removal = since_removal.map(|hours: i32| hours + 1);
        if let Some(before_us) = judgement.remove_before_us {
            if before_us >= life.oldest_day_end_us {
                assert!(since_removal.is_none_or(|hours| hours >= 24), "{hours}");
                assert!(before_us < life.oldest_day_end_us + DAY_US);
                life.oldest_day_end_us += DAY_US;
                removed += 1;
                since_removal = Some(0);
            }
        } else {
            assert_eq!(hours, 0, "only the first hour is quiet");
        }
    }
    assert!((3..=4).contains(&removed), "{removed}");
}

#[test]
fn a_start_far_past_all_that_was_received_is_doubted_but_not_the_first_use_of_retention() {
    let newest = |stored: Option<i64>, journaled: Option<i64>, kept: Option<Doubt>| {
        let mut clock = RetentionClock::new(reading(START_US, 0), journaled);
        assert_eq!(clock.asks_for_newest(kept), kept.is_some());
        let facts = ClockFacts {
            now: reading(START_US + HOUR_US, HOUR_US),
            store_us: START_US + HOUR_US,
            retention_days: RETENTION_DAYS,
            oldest_day_end_us: None,
            newest_stored_us: stored,
        };
        let reason = clock.judge(kept, facts).doubt.reason;
        assert!(!clock.asks_for_newest(kept));
        reason
    };
    let known = Some(Doubt::default());
    let ago = |us: i64| Some(START_US - us);
    for (stored, journaled, kept, reason) in [
        (ago(DAY_US + 1), None, known, Some(DoubtReason::Gap)),
        (ago(DAY_US), None, known, None),
        (ago(9 * DAY_US), ago(HOUR_US), known, None),
        (
            ago(9 * DAY_US),
            ago(3 * DAY_US),
            known,
            Some(DoubtReason::Gap),
        ),
        (ago(-9 * DAY_US), None, known, None),
        (None, None, known, None),
        (ago(90 * DAY_US), None, None, None),
    ] {
        assert_eq!(
            newest(stored, journaled, kept),
            reason,
            "{stored:?} {journaled:?}"
        );
    }
}

#[test]
fn a_gap_is_doubted_until_a_person_confirms_the_clock_and_the_clock_as_it_then_is_is_believed() {
    let mut life = Life::new();
    life.judge(0, 0);
    life.judge(1, 30 * DAY_US);
    let mut confirmed = life.kept.expect("kept");
    confirmed.reason = None;
    confirmed.confirmations += 1;
    life.kept = Some(confirmed);
    let after = life.judge(2, 30 * DAY_US);
    assert_eq!(after.doubt.reason, None);
    assert_eq!(after.remove_before_us, Some(START_US + 2 + 23 * DAY_US));
    // Setting the clock back is a step like any other.
    assert_eq!(life.judge(3, 0).doubt.reason, Some(DoubtReason::Set));
}

/// Two collectors take turns. Each counts the time that it observes, and no time is counted twice.
#[test]
fn two_collectors_count_the_time_of_one_doubt_once() {
    let mut life = Life::new();
    let mut other = RetentionClock::new(reading(START_US, 0), None);
    life.judge(0, 0);
    life.judge(1, 2 * DAY_US);
    for minutes in 1..=59 {
        let passed_us = minutes * 60_000_000;
        if minutes % 2 == 0 {
            life.judge(passed_us, 2 * DAY_US);
        } else {
            let facts = ClockFacts {
                now: reading(START_US + passed_us, passed_us),
                store_us: START_US + passed_us,
                retention_days: RETENTION_DAYS,
                oldest_day_end_us: Some(life.oldest_day_end_us),
                newest_stored_us: Some(START_US),
            };
            life.kept = Some(other.judge(life.kept, facts).doubt);
        }
        let doubt = life.kept.expect("kept");
        assert!(doubt.reason.is_some());
        assert!(
            doubt.waited_us <= passed_us,
            "{doubt:?} after {minutes} min"
        );
    }
    let doubt = life.kept.expect("kept");
    assert!(doubt.waited_us >= 57 * 60_000_000, "{doubt:?}");
}
