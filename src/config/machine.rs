//! What the configuration asks of the machine: its name, and how much memory there is.
//!
//! **Invariant:** read once, before anything is configured; what cannot be read is not known, never an error.

use std::fs;

use crate::memory::limit;

/// The machine, as this process may use it.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub host_name: String,
    /// The least of what is installed and of what limits this process.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// The one this runs on (Linux: /proc).
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
