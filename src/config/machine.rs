//! What the configuration asks of the machine: its name, and how much memory there is.
//!
//! **Invariant:** read once, before anything is configured; what cannot be read is not known, never an error.

use std::fs;
use std::path::{Path, PathBuf};

/// The machine, as this process may use it.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub host_name: String,
    /// The least of the machine's memory and the limits of this process's control groups.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// The one this runs on (Linux: /proc and control groups, version 2 or 1).
    #[must_use]
    pub fn here() -> Self {
        Self {
            host_name: line("/proc/sys/kernel/hostname").unwrap_or_else(|| "localhost".to_owned()),
            memory_bytes: control_group_files()
                .iter()
                .filter_map(|path| line(path)?.parse().ok())
                .chain(installed_bytes())
                .min(),
        }
    }
}

/// The files that limit this process's memory: those of its group and of every group around it.
fn control_group_files() -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut files = Vec::new();
    for entry in own.lines() {
        // "0::/a/b" (version 2), "7:memory:/a/b" (version 1).
        let mut fields = entry.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in Path::new(path).ancestors() {
            let group = group.strip_prefix("/").unwrap_or(group);
            files.push(Path::new(root).join(group).join(file));
        }
    }
    files
}

fn installed_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}
