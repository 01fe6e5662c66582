//! Which sampled requests wait in the log: so that a batch can say whose records it holds.
//!
//! In memory alone, and bounded: what a start finds in the log, and what is pushed out by newer requests, is written without
//! a trace.
//!
//! **Invariant:** it only ever holds requests that are traced; while there are none, it costs a look at one number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt};

use crate::telemetry::own_traces::is_sampled;

/// Requests remembered; the oldest go first.
const WAITING_MAX: usize = 4096;

/// Links of one batch's span.
pub(super) const LINKS_MAX: usize = 64;

/// What a record is known by from before it has a position until it is read back: when it was received, and its length. Two
/// that agree in both share a link, which does no harm.
pub(crate) type RequestTag = (i64, usize);

static WAITING: AwaitedRequests = AwaitedRequests {
    number: AtomicUsize::new(0),
    spans: Mutex::new(BTreeMap::new()),
};

struct AwaitedRequests {
    number: AtomicUsize,
    spans: Mutex<BTreeMap<RequestTag, SpanContext>>,
}

impl AwaitedRequests {
    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<RequestTag, SpanContext>) -> T) -> T {
        let mut spans: MutexGuard<'_, _> =
            self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut spans);
        while spans.len() > WAITING_MAX {
            spans.pop_first();
        }
        self.number.store(spans.len(), Ordering::Relaxed);
        changed
    }
}

/// Remembers the current span, if it is sampled, as the one that this record comes from. To be called before the record goes
/// to the log, as its batch may be there before its answer.
pub(crate) fn expect(mark: RequestTag) {
    if is_sampled() {
        let span = Context::map_current(|context| context.span().span_context().clone());
        WAITING.change(|spans| spans.insert(mark, span));
    }
}

/// The spans that these records come from, as many as a batch's span may link to.
pub(super) fn of(marks: impl Iterator<Item = RequestTag>) -> Vec<SpanContext> {
    if WAITING.number.load(Ordering::Relaxed) == 0 {
        return Vec::new();
    }
    WAITING.change(|spans| {
        marks
            .filter_map(|mark| spans.get(&mark).cloned())
            .take(LINKS_MAX)
            .collect()
    })
}

/// These records are stored.
pub(crate) fn forget(marks: impl Iterator<Item = RequestTag>) {
    if WAITING.number.load(Ordering::Relaxed) > 0 {
        WAITING.change(|spans| {
            for mark in marks {
                spans.remove(&mark);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{AwaitedRequests, WAITING_MAX};
    use opentelemetry::trace::SpanContext;

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let waiting = AwaitedRequests {
            number: 0.into(),
            spans: Default::default(),
        };
        for n in 0..WAITING_MAX + 10 {
            let mark = (i64::try_from(n).unwrap(), 1);
            waiting.change(|spans| spans.insert(mark, SpanContext::NONE));
        }
        waiting.change(|spans| {
            assert_eq!(spans.len(), WAITING_MAX);
            assert_eq!(spans.first_key_value().unwrap().0, &(10, 1));
        });
    }
}
