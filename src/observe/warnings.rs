//! What about the set-up may lose or fill something: said once at the start, and in `/health` for as long as it holds.
//!
//! **Invariant:** a warning never keeps the service from starting or changes its status.

use std::path::Path;

use crate::config::Config;

/// Linux's magic numbers of file systems that do not outlive the machine or the container (statfs(2)).
const TMPFS: u64 = 0x0102_1994;
const OVERLAYFS: u64 = 0x794c_7630;

const ENDLESS: &str = "nothing is ever removed from the database: set RUVVECTOR_RETENTION_DAYS to the number of days that \
                       events are to be kept, or to `off` to keep them for ever";

/// The warnings that hold under these settings; sentences that say what to do.
#[must_use]
pub fn at_start(config: &Config) -> Vec<String> {
    let endless = config.retention_unset.then(|| ENDLESS.to_owned());
    volatile(&config.data_dir)
        .into_iter()
        .chain(endless)
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::volatile;

    #[test]
    fn a_data_directory_in_memory_is_warned_of() {
        let warning = volatile(Path::new("/dev/shm")).unwrap();
        assert!(warning.contains("/dev/shm is in memory"), "{warning}");
        assert!(warning.contains("RUVVECTOR_DATA_DIR"), "{warning}");
        assert_eq!(volatile(Path::new("/nonexistent")), None);
    }
}
