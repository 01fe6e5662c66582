//! The number of connections that the limit of open files allows (getrlimit(2), `RLIMIT_NOFILE`).
//!
//! **Invariant:** connections never use the descriptors that the journal and the stores need.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors kept back for the journal's segments, both pools and SQLite's files; if the limit is below 512, half of
/// it.
const KEPT_BACK: u64 = 256;

/// Returns `wanted`, or the number of connections that the limit allows if that is less. The soft limit is raised to
/// the hard one first.
pub(crate) fn connections_max(wanted: usize) -> usize {
    let Some(files) = files_max() else {
        return wanted;
    };
    let room = room(files).min(wanted);
    if room < wanted {
        tracing::warn!(
            files,
            wanted,
            connections = room,
            "the limit of open files (ulimit -n) allows fewer connections than RUVVECTOR_CONNECTIONS: raise it, or \
             lower the setting"
        );
    }
    room
}

/// Returns the limit of open files; `None` = no limit.
fn files_max() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If that is forbidden, the soft limit is kept.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current
}

fn room(files: u64) -> usize {
    usize::try_from(files - KEPT_BACK.min(files / 2)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::room;

    #[test]
    fn the_journal_and_the_stores_keep_their_descriptors() {
        for (files, connections) in [(1_048_576, 1_048_320), (1024, 768), (200, 100), (1, 1)] {
            assert_eq!(room(files), connections, "{files}");
        }
    }
}
