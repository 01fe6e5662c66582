//! The outcome of a request of ingestion, as it is counted.
//!
//! **Invariant:** the outcomes are a closed set, and each has a series from the start.

/// The outcome of a request; the metric label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    Accepted,
    Partial,
    Invalid,
    /// The token, origin, method or content type is not accepted here. Counted apart from refusals, which mean lost
    /// events.
    Denied,
    Refused,
    Unknown,
    /// An identical request was accepted before.
    Duplicate,
}

impl RequestOutcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Partial,
        Self::Invalid,
        Self::Denied,
        Self::Refused,
        Self::Unknown,
        Self::Duplicate,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Partial => "partial",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Duplicate => "duplicate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RequestOutcome;

    #[test]
    fn each_outcome_has_its_own_counter() {
        for (index, outcome) in RequestOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }
}
