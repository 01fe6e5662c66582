//! How many connections the limit of open files leaves room for (getrlimit(2), `RLIMIT_NOFILE`).
//!
//! **Invariant:** clients never get the descriptors that the log and the stores need.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Kept back for the log's segments, both pools and SQLite's files; half of what there is, if that is less.
const KEPT_BACK: u64 = 256;

/// `wanted`, or as many as fit; the soft limit is raised to the hard one first.
pub(in crate::receive) fn connections_max(wanted: usize) -> usize {
    let Some(files) = files_max() else {
        return wanted;
    };
    let room = room(files).min(wanted);
    if room < wanted {
        tracing::warn!(
            files,
            wanted,
            connections = room,
            "the limit of open files (ulimit -n) leaves room for fewer connections than are set"
        );
    }
    room
}

/// `None` = without limit.
fn files_max() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is forbidden, the limit stays as it is.
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
    fn the_log_and_the_stores_keep_their_descriptors() {
        for (files, connections) in [(1_048_576, 1_048_320), (1024, 768), (200, 100), (1, 1)] {
            assert_eq!(room(files), connections, "{files}");
        }
    }
}
