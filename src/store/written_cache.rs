//! Caches the resources and streams that the database has, so that most batches need no transaction for them.
//!
//! **Invariant:** an id is added only after its commit was confirmed.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::event::{Resource, ResourceId, StreamId};
use crate::store::lock;

/// Maximum number of cached ids, about 6 MiB.
const MOST_IDS: usize = 100_000;

/// Time after which an id is written again, which refreshes its `last_seen`.
const REFRESH: Duration = Duration::from_secs(20 * 3600);

#[derive(Default)]
pub(super) struct WrittenCache(Mutex<WrittenCacheState>);

#[derive(Default)]
struct WrittenCacheState {
    resources: HashMap<ResourceId, Instant>,
    streams: HashSet<StreamId>,
}

impl WrittenCache {
    /// Forgets everything. After an error it may be another database, or the same one restored to an earlier state.
    pub(super) fn clear(&self) {
        *lock(&self.0) = WrittenCacheState::default();
    }

    /// Returns the resources to write, sorted by id and each once, so that two collectors never deadlock; `None` if the
    /// stream's row and all resources are written.
    pub(super) fn missing<'a>(
        &self,
        stream: StreamId,
        resources: &[&'a Resource],
    ) -> Option<Vec<&'a Resource>> {
        let state = lock(&self.0);
        let is_missing = |resource: &&'a Resource| {
            let seen = state.resources.get(&resource.id);
            seen.is_none_or(|seen| seen.elapsed() > REFRESH)
        };
        let mut missing: Vec<_> = resources.iter().copied().filter(is_missing).collect();
        missing.sort_unstable_by_key(|resource| resource.id);
        missing.dedup_by_key(|resource| resource.id);
        (!missing.is_empty() || !state.streams.contains(&stream)).then_some(missing)
    }

    pub(super) fn add(&self, stream: StreamId, resources: &[&Resource]) {
        let mut state = lock(&self.0);
        state.streams.insert(stream);
        if state.resources.len() + resources.len() > MOST_IDS {
            state.resources.clear();
        }
        let now = Instant::now();
        let newest = resources.iter().take(MOST_IDS);
        state
            .resources
            .extend(newest.map(|resource| (resource.id, now)));
    }
}
