//! Facts about the machine that the configuration needs: its name, and the memory available.
//!
//! **Invariant:** the facts are read once, before the configuration is loaded. A fact that cannot be read is unknown,
//! never an error.

use std::fs;

use crate::memory::limit;

/// The machine, as this process may use it.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub host_name: String,
    /// Memory that this process may use: the least of installed memory and the limits of this process; `None` =
    /// unknown.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// Reads the facts of this machine (Linux: /proc).
    #[must_use]
    pub fn here() -> Self {
        let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            host_name: match host_name.trim() {
                "" => "localhost".to_owned(),
                name => name.to_owned(),
            },
            memory_bytes: limit::detected_bytes(),
        }
    }
}
