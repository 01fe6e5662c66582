//! SQLite.
//!
//! **Invariant:** a batch's rows, dead letters and positions commit together.

use std::time::Duration;

use super::{Account, Batch, Maintained, Options, PoolState, StoreError, StreamFacts};
use crate::event::Resource;
use crate::log::StreamId;

/// The store behind [`super::Store::Sqlite`].
#[derive(Clone)]
pub struct Sqlite {
    /// For queries; see [`crate::query`].
    pub read_pool: sqlx::SqlitePool,
}

#[expect(clippy::unused_async, reason = "not written yet")]
impl Sqlite {
    pub(super) fn new(options: &Options) -> Self {
        let _ = options;
        todo!()
    }

    pub(super) async fn prepare(&self) -> Result<(), StoreError> {
        todo!()
    }

    pub(super) async fn account(&self, _stream: StreamId) -> Result<Account, StoreError> {
        todo!()
    }

    pub(super) async fn write_resources(
        &self,
        _facts: StreamFacts,
        _resources: &[Resource],
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(super) async fn write(&self, _batch: &Batch) -> Result<(), StoreError> {
        todo!()
    }

    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        todo!()
    }

    pub(super) async fn heartbeat(
        &self,
        _held: &[StreamFacts],
        _released: &[StreamId],
    ) -> Result<(), StoreError> {
        todo!()
    }

    pub(super) async fn maintain(
        &self,
        _oldest_held_unix_nano: Option<i64>,
    ) -> Result<Maintained, StoreError> {
        todo!()
    }

    pub(super) async fn ping(&self) -> Result<Duration, StoreError> {
        todo!()
    }

    pub(super) fn pools(&self) -> [PoolState; 2] {
        todo!()
    }
}
