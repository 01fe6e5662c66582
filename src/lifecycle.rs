//! The latch of the process's life: starting, ready, stopping, broken.
//!
//! **Invariant:** it only ever moves forward, and no await stands between a change and what others read.

use tokio::sync::watch;

/// Where the process is in its life, as `/health/ready` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The log is recovering, or the listeners are not up yet.
    Starting,
    Ready,
    /// Stopping: what is in flight is finished, nothing new should come.
    Stopping,
    /// The log failed; the process ends and recovers from disk.
    Broken,
}

impl Phase {
    /// The word in the answer.
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

/// The latch; all clones are the same one. Begins as [`Phase::Starting`].
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<Phase>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl Readiness {
    /// Recovery is done and the listeners are up. Does nothing once stopping.
    pub fn ready(&self) {
        self.advance(Phase::Ready);
    }

    /// The process is stopping.
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

    /// Returns the phase. [`Phase::Broken`] is the journal's to report, whatever the phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Tells of each change of the latch; the log is another matter.
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
