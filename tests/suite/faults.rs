//! Every acknowledged event is stored exactly once, whichever process dies at whichever moment.
//!
//! Each test runs the real binary under a load, and compares the load's ledger with the database at the end. The
//! environment sets numbers and times; `scripts/check/faults.sh` is the long run.
//!
//! | variable | default | what |
//! | --- | --- | --- |
//! | `RUVVECTOR_TEST_KILLS` | 50 | `kill -9` of the service under load |
//! | `RUVVECTOR_TEST_OUTAGE_SECONDS` | 120 | how long PostgreSQL stays away |
//! | `RUVVECTOR_TEST_CRASHES` | 3 | crashes of PostgreSQL while rows are copied |
//! | `RUVVECTOR_TEST_COPIES` | 2 | copies of a data directory that are started beside it |
//! | `RUVVECTOR_TEST_STOPS` | 3 | SIGTERM under load |
//! | `RUVVECTOR_TEST_BODIES` | 4 | bodies of 24 and 40 MiB under a limit of memory |
//! | `RUVVECTOR_TEST_GROWING` | 8 | small requests that become many rows under such a limit |
//! | `RUVVECTOR_TEST_GROWING_ITEMS` | 20000 | items of each of them |
//! | `RUVVECTOR_TEST_LARGE_RECORDS` | 2 | records of 63 MiB that a process with less memory stores |
//! | `RUVVECTOR_TEST_CALLS` | 6 | kills or errors at the first so many calls of each system call of the journal |
//!
//! **Invariant:** the ledger decides, never only a log line or an exit code.

use std::str::FromStr;
use std::time::Duration;

use crate::support::load::Load;
use crate::support::service::{Launch, Service};

/// `kill -9`, and copies of a data directory.
mod kill;

/// Copies from different moments.
mod torn;

/// Missing files.
mod lost;

/// Small volumes.
mod volume;

/// Bytes of deleted records on the disk.
mod erased;

/// PostgreSQL unavailable, late, or crashing.
mod outage;

/// SIGTERM and SIGINT.
mod stop;

/// System calls of the journal that kill, fail or are slow.
mod calls;

/// Requests that multiply when they are decoded.
mod memory;

/// A full volume for temporary files.
mod temporary_files;

/// Records that are large, or become large in the table.
mod large;

/// Idle, slow and flooding clients, and no free descriptors.
mod clients;

/// A number of the environment.
fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Starts the service once more under load, ends the load, and returns when all waiting events are stored.
async fn drained(launch: &Launch, load: Load) -> Service {
    let service = launch.start().await;
    load.aim(&service);
    tokio::time::sleep(Duration::from_millis(500)).await;
    load.stop().await;
    service.until_drained().await;
    service
}

/// The ways in which the journal's files are read and written (`RUVVECTOR_JOURNAL_IO`): a test of many rounds uses them
/// in turn, so that each way meets the files of the other.
const JOURNAL_IO: [&str; 2] = ["direct", "buffered"];

/// The same service, with the journal's way of round `round`.
fn in_turn(launch: &Launch, round: u64) -> Launch {
    let io = JOURNAL_IO[usize::from(!round.is_multiple_of(2))];
    launch.clone().with("RUVVECTOR_JOURNAL_IO", io)
}

/// A test's directory, which is removed with it.
fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("ruvvector-fault")
        .tempdir()
        .expect("a temporary directory")
}
