//! The duties of an OTLP server (OTLP 1.11), checked over real sockets: a test for each rule and case.
//!
//! Without arguments it starts our own binary, and is a set of tests with the test runner's usual command line. With `…
//! --judge --server NAME URL [GRPC-URL]` it checks any other server by the same rules and prints a table
//! (scripts/check/otlp-conformance.sh).
//!
//! **Invariant:** a check does not know which server it judges, except for the rows that only our own server can be
//! asked for.

/// The real binary and an HTTP client, as the suite has them.
#[path = "../suite/support"]
pub mod support {
    pub mod client;
    pub mod metrics;
    pub mod service;
}

/// The cases: signals, encodings, protocols.
mod case;

/// Messages to send.
mod message;
mod telemetry;

/// Sending, and the answers.
mod frames;
mod wire;

/// An answer in OTLP's own terms.
mod answer;
mod status;

/// The servers that are judged.
mod ours;
mod server;

/// The result of a check.
mod verdict;

/// The rules.
mod rows;

/// Checks that the rules' checks can fail.
mod careless;

/// The rules checked against one or more servers, as a table.
mod table;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::case::Case;
use crate::rows::Check;
use crate::server::Server;
use crate::verdict::Fault;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--judge") {
        return table::judge(arguments);
    }
    let arguments = Arguments::from_args();
    let server = Arc::new(Server::ours().expect("a runtime can be started"));
    let trials = rows::all().into_iter().flat_map(|check| {
        let server = Arc::clone(&server);
        check
            .cases
            .iter()
            .map(move |case| trial(check, *case, Arc::clone(&server)))
    });
    let mut trials: Vec<_> = trials.collect();
    trials.push(Trial::test(
        "each_rule_is_broken_by_some_careless_server",
        || careless::break_each_rule().map_err(Into::into),
    ));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(check: &'static Check, case: Case, server: Arc<Server>) -> Trial {
    let name = format!(
        "{}_{}::{}",
        check.row,
        words(check.rule),
        words(&case.to_string())
    );
    Trial::test(name, move || match (check.run)(&server, case) {
        Ok(()) => Ok(()),
        Err(Fault::Failed(seen)) => Err(seen.into()),
        Err(Fault::NotJudged(why)) => Err(format!("our own server must show it: {why}").into()),
    })
}

/// As part of a test's name.
fn words(text: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric();
    let text = text.replace('\'', "");
    let words: Vec<_> = text
        .split(|letter| !is_part(letter))
        .filter(|word| !word.is_empty())
        .collect();
    words.join("_")
}
