//! The rules that an OTLP server is held to, row by row; each cites where it comes from.
//!
//! **Invariant:** a rule's level is what the specification's own words make it, not how much we care for it.

/// G1 to G6: what is accepted.
mod accepted;

/// G7 to G14: items that are not as they should be.
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

/// By whose word a server has to keep a rule (RFC 2119).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Must,
    Should,
    /// The specification leaves it open, and we hold it to be owed all the same.
    Wish,
}

pub(crate) struct Check {
    pub row: &'static str,
    /// A sentence in the present.
    pub rule: &'static str,
    pub level: Level,
    /// The section or file that says so, or what the wish rests on.
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

/// All, in the order of the rows.
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
