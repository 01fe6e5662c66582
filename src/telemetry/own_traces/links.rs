//! The sampled requests whose records are in the journal, so that the span of a batch can link to them.
//!
//! They are kept in memory alone, and their number is bounded: records of earlier runs, and of requests that newer ones
//! displaced, are written without a link.
//!
//! **Invariant:** only traced requests are kept; while there are none, the cost is one atomic load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt};

use crate::telemetry::own_traces::is_sampled;

/// Maximum number of requests that are kept; the oldest are removed first.
const WAITING_MAX: usize = 4096;

/// Maximum number of links of one batch's span.
pub(super) const LINKS_MAX: usize = 64;

/// Identifies a record before it has a position and after it is read back: its receive time (Unix ns) and its length in
/// bytes. Two records with the same tag share a link, which does no harm.
pub(crate) type RequestTag = (i64, usize);

static WAITING: AwaitedRequests = AwaitedRequests {
    number: AtomicUsize::new(0),
    spans: Mutex::new(BTreeMap::new()),
};

struct AwaitedRequests {
    /// Number of entries in `spans`, readable without the lock.
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

/// Keeps the current span, if it is sampled, as the origin of this record.
///
/// Must be called before the record is appended, as its batch may be written before the append returns.
pub(crate) fn expect(tag: RequestTag) {
    if is_sampled() {
        let span = Context::map_current(|context| context.span().span_context().clone());
        WAITING.change(|spans| spans.insert(tag, span));
    }
}

/// Returns the spans of the requests that these records come from, at most [`LINKS_MAX`].
pub(super) fn of(tags: impl Iterator<Item = RequestTag>) -> Vec<SpanContext> {
    if WAITING.number.load(Ordering::Relaxed) == 0 {
        return Vec::new();
    }
    WAITING.change(|spans| {
        tags.filter_map(|tag| spans.get(&tag).cloned())
            .take(LINKS_MAX)
            .collect()
    })
}

/// Removes the requests of these records, which are stored or were not appended.
pub(crate) fn forget(tags: impl Iterator<Item = RequestTag>) {
    if WAITING.number.load(Ordering::Relaxed) > 0 {
        WAITING.change(|spans| {
            for tag in tags {
                spans.remove(&tag);
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
            let tag = (i64::try_from(n).unwrap(), 1);
            waiting.change(|spans| spans.insert(tag, SpanContext::NONE));
        }
        waiting.change(|spans| {
            assert_eq!(spans.len(), WAITING_MAX);
            assert_eq!(spans.first_key_value().unwrap().0, &(10, 1));
        });
    }
}
