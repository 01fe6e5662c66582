//! Settings of the store, and the facts about the start of the process.
//!
//! **Invariant:** no value of this module shows a password.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::store::retention_clock::Clock;

/// The address and the credentials of the database.
#[derive(Clone)]
pub enum StoreTarget {
    Postgres {
        options: Box<PgConnectOptions>,
        /// The target of queries; `None` if it is the same.
        read: Option<Box<PgConnectOptions>>,
    },
    Sqlite {
        path: PathBuf,
    },
}

/// Shows the address without the password, which the driver's own `Debug` would show.
impl fmt::Debug for StoreTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres { options, .. } => write!(
                f,
                "Postgres {{ {}@{}:{} }}",
                options.get_username(),
                options.get_host(),
                options.get_port()
            ),
            Self::Sqlite { path } => write!(f, "Sqlite {{ {} }}", path.display()),
        }
    }
}

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct Options {
    pub target: StoreTarget,
    /// Apply migrations at first contact.
    pub migrate: bool,
    /// `None` if events are never removed.
    pub retention_days: Option<u32>,
    pub connect_timeout: Duration,
    /// Timeout of each statement of a batch transaction.
    pub statement_timeout: Duration,
    /// Number of connections for writing and for queries. SQLite always has one for writing.
    pub write_connections: u32,
    pub read_connections: u32,
    /// Name of this collector in `ingest_streams`: host name and data directory.
    pub collector: String,
}

/// The facts about the start of this process that retention needs.
#[derive(Clone, Debug)]
pub struct ProcessStart {
    pub clock: Clock,
    /// The newest receive time in the journal, Unix nanoseconds, if it is known.
    pub newest_journaled_unix_nano: Option<i64>,
}

impl Default for ProcessStart {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            newest_journaled_unix_nano: None,
        }
    }
}

#[cfg(test)]
impl Options {
    /// Returns the options of a SQLite file for a unit test.
    pub(crate) fn sqlite_file(path: PathBuf) -> Self {
        Self {
            target: StoreTarget::Sqlite { path },
            migrate: true,
            retention_days: None,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
            write_connections: 1,
            read_connections: 2,
            collector: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Options, StoreTarget};
    use crate::store::Store;

    /// The advice to raise the number of connections had no effect: two batches were written at a time, whatever it
    /// was.
    #[tokio::test]
    async fn all_connections_but_two_write_batches() {
        let at_once = |target: StoreTarget, write_connections| {
            let store = Store::new(&Options {
                target,
                write_connections,
                ..Options::sqlite_file(PathBuf::new())
            });
            (store.batches_at_once(), store.spares_a_connection())
        };
        for (connections, expected) in [
            (2, (1, true)),
            (3, (1, true)),
            (4, (2, true)),
            (6, (4, true)),
            (40, (8, true)),
        ] {
            let nowhere = StoreTarget::Postgres {
                options: Box::default(),
                read: None,
            };
            assert_eq!(at_once(nowhere, connections), expected, "{connections}");
        }
        let path = PathBuf::from("/nowhere/telemetry.db");
        assert_eq!(at_once(StoreTarget::Sqlite { path }, 4), (1, false));
    }
}
