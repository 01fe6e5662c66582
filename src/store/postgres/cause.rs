//! Finds the cause of an error that does not name it, by asking the server on a separate connection.
//!
//! **Invariant:** the error keeps its class and SQLSTATE, and asking takes at most [`LIMIT`].

use std::time::Duration;

use crate::store::postgres::Postgres;
use crate::store::{FailureClass, StoreError};

/// Timeout for connecting and one statement together.
const LIMIT: Duration = Duration::from_secs(3);

/// The standbys that a commit of this role is waiting for. A role cannot see the waits of other roles.
const SYNCHRONOUS_STANDBYS: &str = "SELECT current_setting('synchronous_standby_names') WHERE EXISTS ( \
     SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user AND wait_event = 'SyncRep')";

/// The source of `default_transaction_read_only`; NULL on a standby, which is always read-only.
const READ_ONLY: &str = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN source END FROM pg_settings \
     WHERE name = 'default_transaction_read_only'";

const STANDBY: &str = "the server is a standby: point the database's URL at the primary; after a failover the name may lead to \
                       the old server for a while";

impl Postgres {
    /// Names the cause of an error in the result of a call of the store.
    pub(in crate::store) async fn with_cause<T>(
        &self,
        mut done: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Err(error) = &mut done {
            self.name_cause(error).await;
        }
        done
    }

    /// Replaces an error's sentence by one that names the cause and advises the operator, if the cause can be found.
    pub(in crate::store) async fn name_cause(&self, error: &mut StoreError) {
        let StoreError::Retry {
            class,
            sqlstate,
            message,
        } = error
        else {
            return;
        };
        match (*class, sqlstate.as_deref()) {
            (_, Some("25006")) => {
                let why = self.why_read_only().await;
                *message = format!("{message}: {why}");
            }
            // This process's deadline for a COMMIT expired, or the wait for a lock that such a COMMIT holds.
            (FailureClass::Timeout, None | Some("55P03" | "57014")) => {
                if let Some(cause) = self.missing_standby().await {
                    *message = cause;
                }
            }
            _ => {}
        }
    }

    async fn why_read_only(&self) -> String {
        let source: Option<Option<String>> = self.ask(READ_ONLY).await;
        match source {
            Some(None) => STANDBY.to_owned(),
            Some(Some(source)) => format!(
                "the server is a primary, and default_transaction_read_only is on (source: {source}). Providers switch it on \
                 when the storage is nearly full: free or enlarge it; else switch it off where it was set, as by ALTER \
                 DATABASE … RESET default_transaction_read_only"
            ),
            None => format!("either {STANDBY}; or default_transaction_read_only is on"),
        }
    }

    async fn missing_standby(&self) -> Option<String> {
        let names: Option<String> = self.ask(SYNCHRONOUS_STANDBYS).await;
        let names = names?;
        Some(format!(
            "commits wait for a synchronous standby that does not confirm them (synchronous_standby_names is {names:?}): start \
             the standby, or take it out of synchronous_standby_names and reload the server"
        ))
    }

    /// Returns the first value of the first row; `None` if there is no row, or no answer within [`LIMIT`].
    async fn ask<T>(&self, sql: &'static str) -> Option<T>
    where
        T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
    {
        let asked = async {
            let mut connection = self.connect().await.ok()?;
            let mut transaction = self.begin_on(&mut connection).await.ok()?;
            let answer = transaction.first("asking for the cause", sqlx::query_as(sql));
            let answer = answer.await;
            let (value,) = transaction.end_after(answer).await.ok()??;
            Some(value)
        };
        tokio::time::timeout(LIMIT, asked).await.ok()?
    }
}
