//! The result of a check.
//!
//! **Invariant:** a rule that could not be observed counts neither as passed nor as failed.

/// The reason for which a rule is not seen to be kept.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is broken, with the observation.
    Failed(String),
    /// The server gave no occasion to see it.
    NotJudged(String),
}

impl Fault {
    /// Adds a description of the request before the observation.
    pub(crate) fn of(self, sent: &str) -> Self {
        match self {
            Self::Failed(seen) => Self::Failed(format!("{sent}: {seen}")),
            not_judged @ Self::NotJudged(_) => not_judged,
        }
    }
}

pub(crate) type Verdict = Result<(), Fault>;

impl From<String> for Fault {
    fn from(seen: String) -> Self {
        Self::Failed(seen)
    }
}

/// # Errors
/// The observation, unless `holds`.
pub(crate) fn ensure(holds: bool, seen: impl FnOnce() -> String) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Fault::Failed(seen()))
    }
}
