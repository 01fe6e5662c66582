//! The memory of answers: reserved before a row's text is read, and released as the client receives the answer.
//!
//! Each query has a small base without a reservation. Beyond that, all queries reserve from a common part, piece by
//! piece. If the common part is used up, one query at a time gets the whole reserve, which suffices for the largest
//! answer. The other queries wait for it in the order of their requests. So two queries that each hold half of the
//! memory never wait for each other.
//!
//! **Invariant:** the bases, the common part and the whole reserve together are [`super::Options::memory_bytes`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::memory::budget::{Budget, BudgetRefusal, Reservation};
use crate::query::Options;
use crate::telemetry::metrics::QUERY_INFLIGHT_BYTES;

/// Longest time that a query waits for memory. For comparison: reading the largest answer and sending it to a nearby
/// client takes 1 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// The common part is granted in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// The base of a query if memory is plentiful: the driver's buffers of rows, and a page of small events.
const BASE_BYTES: usize = 1 << 20;

/// Maximum length of a row's texts together that are read with the other rows. Longer ones are read separately, once
/// memory is reserved for them.
pub(super) const LARGE_ROW_BYTES: usize = 64 << 10;

/// A large row is in memory twice at the same time: as the database sends it, and as JSON.
const COPIES: usize = 2;

/// The memory that all answers share.
pub(super) struct AnswerMemory {
    base_bytes: usize,
    common: Arc<Budget>,
    whole: Arc<Budget>,
}

impl AnswerMemory {
    pub(super) fn new(options: &Options) -> Self {
        let whole_bytes = whole_bytes(options.memory_bytes);
        let shared = options.memory_bytes - whole_bytes;
        let base_bytes = BASE_BYTES.min(shared / options.concurrency.max(1));
        let common_bytes = shared - base_bytes * options.concurrency;
        let budget = |bytes| {
            let gauge = metrics::gauge!(QUERY_INFLIGHT_BYTES);
            Arc::new(Budget::new(bytes, bytes, gauge))
        };
        Self {
            base_bytes,
            common: budget(common_bytes),
            whole: budget(whole_bytes),
        }
    }

    /// Returns an empty grant for the query that has `slot`.
    pub(super) fn begin(&self, slot: OwnedSemaphorePermit) -> AnswerGrant {
        AnswerGrant {
            base_bytes: self.base_bytes,
            common: self.common.reservation(),
            whole: self.whole.reservation(),
            whole_bytes: self.whole.most_bytes(),
            _slot: slot,
        }
    }
}

/// Returns the size of the whole reserve: two thirds of the memory.
const fn whole_bytes(memory_bytes: usize) -> usize {
    memory_bytes / 3 * 2
}

/// Returns the size of the largest answer: half of the whole reserve, as an export is held twice while it is written.
pub(super) const fn answer_bytes_max(memory_bytes: usize) -> usize {
    whole_bytes(memory_bytes) / 2
}

/// The memory and the slot of one query, held until the last piece of its answer is handed to the connection.
pub(super) struct AnswerGrant {
    base_bytes: usize,
    common: Reservation,
    whole: Reservation,
    whole_bytes: usize,
    _slot: OwnedSemaphorePermit,
}

impl AnswerGrant {
    /// Waits until the query may hold `bytes` in all.
    ///
    /// # Errors
    /// [`BudgetRefusal::NoRoom`] after [`PATIENCE`], [`BudgetRefusal::NeverFits`] if a single query may not hold as
    /// much.
    pub(super) async fn hold(&mut self, bytes: usize) -> Result<(), BudgetRefusal> {
        let beyond = bytes.saturating_sub(self.base_bytes);
        let held = self.common.bytes() + self.whole.bytes();
        if beyond <= held {
            return Ok(());
        }
        let never = BudgetRefusal::NeverFits {
            limit_bytes: self.base_bytes + self.whole_bytes,
        };
        let piece = (beyond - held).next_multiple_of(PIECE_BYTES);
        if self.common.grow(piece).is_ok() {
            return Ok(());
        }
        let rest = self.whole_bytes - self.whole.bytes();
        if rest == 0 || beyond > self.common.bytes() + self.whole_bytes {
            return Err(never);
        }
        self.whole.grow_within(rest, PATIENCE).await
    }

    /// Waits until the query may hold a row with `row_bytes` of text in addition to `bytes`.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub(super) async fn hold_row(
        &mut self,
        bytes: usize,
        row_bytes: usize,
    ) -> Result<(), BudgetRefusal> {
        let row_bytes = row_bytes.saturating_add(LARGE_ROW_BYTES);
        self.hold(bytes.saturating_add(row_bytes.saturating_mul(COPIES)))
            .await
    }

    /// Releases the memory above `bytes`.
    pub(super) fn keep(&mut self, bytes: usize) {
        let beyond = bytes.saturating_sub(self.base_bytes);
        self.whole
            .shrink_to(beyond.saturating_sub(self.common.bytes()));
        self.common.shrink_to(beyond);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::{AnswerGrant, AnswerMemory, Arc, BudgetRefusal, Options, answer_bytes_max};

    const MIB: usize = 1 << 20;

    fn memory() -> AnswerMemory {
        AnswerMemory::new(&Options {
            memory_bytes: 48 * MIB,
            ..Options::default()
        })
    }

    async fn begin(memory: &AnswerMemory) -> AnswerGrant {
        let slots = Arc::new(Semaphore::new(1));
        memory.begin(slots.acquire_owned().await.unwrap())
    }

    #[tokio::test]
    async fn queries_that_grow_together_never_wait_for_each_other() {
        let memory = memory();
        let largest = answer_bytes_max(48 * MIB);
        assert_eq!(largest, 16 * MIB);
        let read = async || {
            let mut held = begin(&memory).await;
            for bytes in (0..=largest).step_by(MIB / 4) {
                held.hold(bytes).await.unwrap();
                tokio::task::yield_now().await;
            }
            held.keep(largest);
        };
        tokio::join!(
            read(),
            read(),
            read(),
            read(),
            read(),
            read(),
            read(),
            read()
        );
        let mut all = begin(&memory).await;
        all.hold(33 * MIB).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_sent_is_free_and_what_can_never_be_held_is_refused_at_once() {
        let memory = memory();
        let mut slow = begin(&memory).await;
        slow.hold(20 * MIB).await.unwrap();
        slow.keep(MIB);
        let mut next = begin(&memory).await;
        next.hold(33 * MIB).await.unwrap();
        let refused = next.hold(48 * MIB).await;
        assert!(matches!(refused, Err(BudgetRefusal::NeverFits { .. })));
    }
}
