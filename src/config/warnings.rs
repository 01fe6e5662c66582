//! Warnings of settings that may lose events, expose them or fill a disk: logged once at the start, and shown in
//! `/health`.
//!
//! **Invariant:** a warning neither prevents the start nor changes the service's status.

use std::net::IpAddr;
use std::path::Path;

use crate::config::Config;
use crate::receive::AuthTokens;

/// Linux's magic numbers of file systems that do not outlive the machine or the container (statfs(2)).
const TMPFS: u64 = 0x0102_1994;
const OVERLAYFS: u64 = 0x794c_7630;

const ENDLESS: &str = "nothing is ever removed from the database: set RUVVECTOR_RETENTION_DAYS to the number of days that \
                       events are to be kept, or to `off` to keep them for ever";

/// Returns the warnings for these settings, each a sentence with the remedy.
#[must_use]
pub fn at_start(config: &Config) -> Vec<String> {
    let endless = config.retention_unset.then(|| ENDLESS.to_owned());
    volatile(&config.data_dir)
        .into_iter()
        .chain(endless)
        .chain(open_to_all(&config.bind, &config.receive.auth_tokens))
        .collect()
}

/// Warns if the service can be reached from other machines without a token.
fn open_to_all(bind: &[IpAddr], tokens: &AuthTokens) -> Option<String> {
    let reachable: Vec<_> = bind
        .iter()
        .filter(|address| !address.to_canonical().is_loopback())
        .map(ToString::to_string)
        .collect();
    if reachable.is_empty() || !tokens.is_empty() {
        return None;
    }
    Some(format!(
        "everybody who reaches {} may send events and read all, as there are no tokens: set RUVVECTOR_AUTH_TOKENS, or \
         RUVVECTOR_BIND=127.0.0.1,::1 for this machine alone",
        reachable.join(" and ")
    ))
}

/// Warns if the data directory is on a file system that does not survive a restart.
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

/// Returns the magic number of the path's file system; `None` if the system does not report it.
fn file_system(path: &Path) -> Option<u64> {
    let kind = rustix::fs::statfs(path).ok()?.f_type;
    u64::try_from(kind).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{AuthTokens, open_to_all, volatile};

    /// A service on 0.0.0.0 was readable by the whole network of an office, and had logged no warning.
    #[test]
    fn an_address_beyond_this_machine_without_a_token_is_warned_of() {
        let none = AuthTokens::default();
        let some = AuthTokens::new(&["secret".into()]);
        for (bind, reachable) in [
            (&["0.0.0.0"][..], Some("0.0.0.0")),
            (&["127.0.0.1", "::"], Some("::")),
            (&["192.168.1.7", "fe80::1"], Some("192.168.1.7 and fe80::1")),
            (&["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"], None),
        ] {
            let bind: Vec<_> = bind.iter().map(|text| text.parse().unwrap()).collect();
            let warning = open_to_all(&bind, &none);
            let expected =
                reachable.map(|address| format!("everybody who reaches {address} may send"));
            match (warning, expected) {
                (Some(warning), Some(expected)) => {
                    assert!(warning.starts_with(&expected), "{warning}");
                }
                (warning, expected) => assert_eq!(warning, expected),
            }
            assert_eq!(open_to_all(&bind, &some), None);
        }
    }

    #[test]
    fn a_data_directory_in_memory_is_warned_of() {
        let warning = volatile(Path::new("/dev/shm")).unwrap();
        assert!(warning.contains("/dev/shm is in memory"), "{warning}");
        assert!(warning.contains("RUVVECTOR_DATA_DIR"), "{warning}");
        assert_eq!(volatile(Path::new("/nonexistent")), None);
    }
}
