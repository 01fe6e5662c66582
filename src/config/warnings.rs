//! What about the set-up may lose or fill something: said once at the start, and in `/health` for as long as it holds.
//!
//! **Invariant:** a warning never keeps the service from starting or changes its status.

use std::net::IpAddr;
use std::path::Path;

use crate::config::Config;
use crate::receive::AuthTokens;

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
        .chain(open_to_all(&config.bind, &config.receive.auth_tokens))
        .collect()
}

/// Whoever reaches an address beyond this machine may send and read, if no token is asked for.
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
        "whoever reaches {} may send events and read all, as no token is asked for: set RUVVECTOR_AUTH_TOKENS, or \
         RUVVECTOR_BIND=127.0.0.1,::1 for this machine alone",
        reachable.join(" and ")
    ))
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

    use super::{AuthTokens, open_to_all, volatile};

    /// A service on 0.0.0.0 was read by the whole network of its office, and had said nothing of it.
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
            let expected = reachable.map(|address| format!("whoever reaches {address} may send"));
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
