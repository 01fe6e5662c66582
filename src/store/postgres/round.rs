//! The connection of a round of maintenance, and its failed steps.
//!
//! **Invariant:** a step never runs on a connection on which another has failed: a transaction may still be open there,
//! or an answer unread.

use sqlx::{PgConnection, SqlSafeStr};

use crate::store::postgres::Postgres;
use crate::store::postgres::partitions::Partition;
use crate::store::postgres::transaction::Transaction;
use crate::store::{MaintenanceStep, StepFailure, StoreError};

/// A round of maintenance: its connection, opened when it is first needed, and the steps that failed.
pub(super) struct MaintenanceRound<'a> {
    pub(super) store: &'a Postgres,
    connection: Option<PgConnection>,
    pub(super) failures: Vec<StepFailure>,
}

impl<'a> MaintenanceRound<'a> {
    pub(super) fn new(store: &'a Postgres) -> Self {
        Self {
            store,
            connection: None,
            failures: Vec::new(),
        }
    }

    /// Returns the connection, after a failure a new one.
    pub(super) async fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.store.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Begins a transaction on the connection.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        let store = self.store;
        store.begin_on(self.connection().await?).await
    }

    /// Runs one statement in a transaction, and rolls back on an error.
    pub(super) async fn run_alone(&mut self, statement: impl SqlSafeStr) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let done = transaction
            .run_all("maintaining a partition", statement)
            .await;
        transaction.end_after(done).await
    }

    /// Returns the partitions, oldest first.
    pub(super) async fn partition_list(&mut self) -> Result<Vec<Partition>, StoreError> {
        let mut transaction = self.begin().await?;
        let partitions = transaction.partition_list().await?;
        transaction.commit().await?;
        Ok(partitions)
    }

    /// Drops the connection, so that the next part of a step gets a new one.
    pub(super) fn drop_connection(&mut self) {
        self.connection = None;
    }

    /// Returns the step's result. After a failure, keeps the error, drops the connection and returns `None`.
    pub(super) fn note<T>(
        &mut self,
        step: MaintenanceStep,
        done: Result<T, StoreError>,
    ) -> Option<T> {
        match done {
            Ok(found) => Some(found),
            Err(error) => {
                self.drop_connection();
                self.failures.push(StepFailure { step, error });
                None
            }
        }
    }

    /// Returns whether the last failure was due to a busy lock or server, so that the step's next part would fail, too.
    pub(super) fn is_busy(&self) -> bool {
        self.failures.last().is_some_and(StepFailure::is_busy)
    }

    /// Closes the connection in order. An error of that is ignored, since the work has ended.
    pub(super) async fn end(self) -> Vec<StepFailure> {
        if let Some(connection) = self.connection {
            self.store.close_connection(connection).await;
        }
        self.failures
    }
}
