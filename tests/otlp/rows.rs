//! The rules for an OTLP server, row by row, each with its source.
//!
//! **Invariant:** a rule's level follows the specification's words, not its importance to us.

/// G1 to G6: accepted requests.
mod accepted;

/// G7 to G14: invalid and incomplete items.
mod items;

/// H1 to H4: paths, methods, content types.
mod routes;

/// H5, H11, H12, H14: sizes and connections.
mod transport;

/// H6 to H10: the answers.
mod answers;

/// H13, H15, R6: browsers, tokens, endpoints without a path.
mod access;

/// J1 to J7.
mod json;

/// J8, J9.
mod json_faults;

/// R1 to R5, R7.
mod grpc;

use std::fmt;

use crate::case::Case;
use crate::server::Server;
use crate::verdict::Verdict;

/// The authority of a rule (RFC 2119).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Must,
    Should,
    /// The specification leaves it open, and we think that clients need it.
    Wish,
}

pub(crate) struct Check {
    pub row: &'static str,
    /// A sentence in the present tense.
    pub rule: &'static str,
    pub level: Level,
    /// The section or file of the rule, or the reason of the wish.
    pub source: &'static str,
    pub cases: &'static [Case],
    pub run: fn(&Server, Case) -> Verdict,
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::Wish => "our wish",
        })
    }
}

/// All rules, in the order of the rows.
pub(crate) fn all() -> Vec<&'static Check> {
    let mut checks: Vec<&Check> = [
        accepted::CHECKS,
        items::CHECKS,
        routes::CHECKS,
        transport::CHECKS,
        answers::CHECKS,
        access::CHECKS,
        json::CHECKS,
        json_faults::CHECKS,
        grpc::CHECKS,
    ]
    .into_iter()
    .flatten()
    .collect();
    checks.sort_by_key(|check| place(check.row));
    checks
}

/// `G2` before `G10`, and both before `H1`.
fn place(row: &str) -> (usize, u32) {
    let (group, number) = row.split_at(1);
    let group = "GHJR".find(group).expect("a row of one of four groups");
    (group, number.parse().expect("a row's number"))
}
