//! What a check finds.
//!
//! **Invariant:** what could not be seen is neither passed nor failed.

/// Why a rule is not seen to be kept.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is broken: what was seen.
    Failed(String),
    /// The server gave no occasion to see it.
    NotJudged(String),
}

impl Fault {
    /// With what was sent before what was seen.
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
/// With what was seen, unless `holds`.
pub(crate) fn ensure(holds: bool, seen: impl FnOnce() -> String) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Fault::Failed(seen()))
    }
}
