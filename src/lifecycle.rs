//! The phase of the process, as a latch: starting, ready, stopping.
//!
//! **Invariant:** the phase only moves forward, and a change is visible to readers without an await in between.

use tokio::sync::watch;

/// The phase of the process, as `/health/ready` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The journal is recovering, or the listeners are not up yet.
    Starting,
    Ready,
    /// Shutdown has begun: requests in flight are finished, and clients should send no new ones.
    Stopping,
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
            Self::Stopping => "stopping",
            Self::Broken => "broken",
        }
    }
}

/// The latch that holds the phase; clones share it. Begins as [`Phase::Starting`].
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<Phase>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl Readiness {
    /// Reports that recovery is done and the listeners are up. Has no effect once the process is stopping.
    pub fn ready(&self) {
        self.advance(Phase::Ready);
    }

    /// Reports that shutdown has begun.
    pub fn stopping(&self) {
        self.advance(Phase::Stopping);
    }

    fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let later = *phase < to;
            *phase = to.max(*phase);
            later
        });
    }

    /// Returns the phase. It is never [`Phase::Broken`]: the journal reports that it failed.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Subscribes to changes of the phase. A failure of the journal is not one of them.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::{Phase, Readiness};

    #[test]
    fn stopping_is_never_left_again() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.ready();
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.stopping();
        readiness.ready();
        assert_eq!(readiness.phase(), Phase::Stopping);
    }
}
