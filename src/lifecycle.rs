//! The phases of the process, in their order, as one latch.
//!
//! **Invariant:** the phase only moves forward, and every reader sees a change immediately.

use tokio::sync::watch;

/// The phase of the process. The order of the variants is the order of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The journal is recovering, or the listeners are not up yet.
    Starting,
    Ready,
    /// A stop has begun: connections are still accepted and requests served, but each answer over HTTP/1 closes its
    /// connection, and HTTP/2 announces the close (GOAWAY). Clients should send no new requests.
    Announcing,
    /// Nothing is accepted any more, except for the connections that already wait in the listeners' queues. Requests in
    /// flight are finished, and the connections closed.
    Closing,
    /// The journal failed: the process ends, and its next start recovers from disk.
    Broken,
}

impl Phase {
    /// Returns the word in the answer of `/health/ready`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Announcing | Self::Closing => "stopping",
            Self::Broken => "broken",
        }
    }
}

/// The latch that holds the phase; clones share it. Begins as [`Phase::Starting`].
#[derive(Clone, Debug)]
pub struct Lifecycle(watch::Sender<Phase>);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl Lifecycle {
    /// Begins a phase. Has no effect once a later one has begun.
    pub fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let is_later = *phase < to;
            *phase = to.max(*phase);
            is_later
        });
    }

    /// Returns the phase. It is never [`Phase::Broken`]: the journal reports that it failed.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until this phase, or a later one, has begun.
    pub async fn reached(&self, phase: Phase) {
        let mut phases = self.watch();
        let reached = phases.wait_for(|current| *current >= phase).await;
        reached.expect("this value is a sender");
    }

    /// Subscribes to changes of the phase. A failure of the journal is not one of them.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::{Lifecycle, Phase};

    #[test]
    fn stopping_is_never_left_again() {
        let lifecycle = Lifecycle::default();
        assert_eq!(lifecycle.phase(), Phase::Starting);
        lifecycle.advance(Phase::Ready);
        assert_eq!(lifecycle.phase(), Phase::Ready);
        lifecycle.advance(Phase::Announcing);
        lifecycle.advance(Phase::Ready);
        assert_eq!(lifecycle.phase(), Phase::Announcing);
    }

    #[tokio::test]
    async fn a_phase_is_reached_once_it_or_a_later_one_has_begun() {
        let lifecycle = Lifecycle::default();
        lifecycle.reached(Phase::Starting).await;
        let reached = async {
            lifecycle.reached(Phase::Ready).await;
            lifecycle.phase()
        };
        let advanced = async { lifecycle.advance(Phase::Closing) };
        let (phase, ()) = tokio::join!(reached, advanced);
        assert_eq!(phase, Phase::Closing);
    }
}
