//! Parameters to SQL to a page of events: the same answers from both stores.
//!
//! **Invariant:** no byte of a request becomes part of a statement's text; all values are bound.

use std::time::Duration;

use axum::Router;

use crate::store::Store;

/// Settings of queries.
#[derive(Clone, Debug)]
pub struct Options {
    pub limit_default: u32,
    pub limit_max: u32,
    pub offset_max: u32,
    pub filters_max: usize,
    pub timeout: Duration,
    /// Queries at once; the next are 503.
    pub concurrency: usize,
    pub answer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limit_default: 100,
            limit_max: 10_000,
            offset_max: 100_000,
            filters_max: 20,
            timeout: Duration::from_secs(30),
            concurrency: 8,
            answer_bytes: 32 << 20,
        }
    }
}

/// `GET /query`, `GET /query/{id}`, `GET /traces/{traceId}`.
pub fn router(store: Store, options: Options) -> Router {
    let _ = (store, options);
    Router::new()
}
