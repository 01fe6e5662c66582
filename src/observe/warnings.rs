//! What about the set-up may lose or fill something: said once at the start, and in `/health` for as long as it holds.
//!
//! **Invariant:** a warning never keeps the service from starting or changes its status.

use std::path::Path;

use crate::store;

/// Linux's magic numbers of file systems that do not outlive the machine or the container (statfs(2)).
const TMPFS: u64 = 0x0102_1994;
const OVERLAYFS: u64 = 0x794c_7630;

/// The warnings that hold for this data directory and store; sentences that say what to do.
#[must_use]
pub fn at_start(data_dir: &Path, store: &store::Options) -> Vec<String> {
    [volatile(data_dir), endless(store)]
        .into_iter()
        .flatten()
        .collect()
}

fn volatile(data_dir: &Path) -> Option<String> {
    let kind = file_system(data_dir)?;
    let what = match kind {
        TMPFS => "in memory (tmpfs) and does not survive a restart of the machine",
        OVERLAYFS => "on a container's own layer (overlay) and is removed with the container",
        _ => return None,
    };
    Some(format!(
        "the data directory {} is {what}: mount a volume there, or set RUVVECTOR_DATA_DIR to a path on a disk",
        data_dir.display()
    ))
}

/// `None` where the system does not say.
fn file_system(path: &Path) -> Option<u64> {
    let kind = rustix::fs::statfs(path).ok()?.f_type;
    u64::try_from(kind).ok()
}

fn endless(store: &store::Options) -> Option<String> {
    let postgres = matches!(store.target, store::Target::Postgres { .. });
    (postgres && store.retention_days.is_none()).then(|| {
        "nothing is ever removed from the database: set RUVVECTOR_RETENTION_DAYS to the number of days that events are \
         to be kept"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::at_start;
    use crate::store::{Options, Target};

    fn store(target: Target, retention_days: Option<u32>) -> Options {
        Options {
            target,
            migrate: true,
            retention_days,
            connect_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(1),
            write_connections: 1,
            read_connections: 1,
            collector: String::new(),
        }
    }

    fn postgres(retention_days: Option<u32>) -> Options {
        let target = Target::Postgres {
            options: Box::default(),
            read: None,
        };
        store(target, retention_days)
    }

    #[test]
    fn a_data_directory_in_memory_is_warned_of() {
        let warnings = at_start(Path::new("/dev/shm"), &postgres(Some(30)));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("/dev/shm is in memory"));
        assert!(warnings[0].contains("RUVVECTOR_DATA_DIR"));
    }

    #[test]
    fn a_postgres_that_is_never_emptied_is_warned_of() {
        let nowhere = Path::new("/nonexistent");
        assert!(at_start(nowhere, &postgres(None))[0].contains("RUVVECTOR_RETENTION_DAYS"));
        assert!(at_start(nowhere, &postgres(Some(30))).is_empty());
        let sqlite = Target::Sqlite {
            path: "events.db".into(),
        };
        assert!(at_start(nowhere, &store(sqlite, Some(7))).is_empty());
    }
}
