//! A limit of memory for a process of the service.
//!
//! If the test may make a control group, the kernel ends a process that goes over the limit. Otherwise the setting
//! `memory_bytes` tells the process its limit. In both cases [`MemoryLimit::assert_kept`] asks the kernel for the most that the
//! process ever held.
//!
//! **Invariant:** no control group outlives its test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::service::{Launch, Service};

pub struct MemoryLimit {
    bytes: u64,
    /// To be dropped after the process.
    group: Option<PathBuf>,
}

impl MemoryLimit {
    pub fn of_mib(mib: u64) -> Self {
        let bytes = mib << 20;
        let places = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        let group = places
            .iter()
            .find_map(|(root, file)| make_group(Path::new(root), file, bytes));
        Self { bytes, group }
    }

    /// The same process with the limit.
    pub fn on(&self, launch: &Launch) -> Launch {
        match &self.group {
            Some(group) => {
                let members = group.join("cgroup.procs");
                let members = members.to_str().expect("ASCII");
                let join = r#"echo $$ > "$0" && exec "$@""#;
                launch.clone().under(&["sh", "-c", join, members])
            }
            None => launch
                .clone()
                .with("RUVVECTOR_MEMORY_BYTES", &self.bytes.to_string()),
        }
    }

    /// The process runs, and never held more than the limit.
    #[expect(clippy::print_stderr, reason = "the figure of a long run")]
    pub fn assert_kept(&self, service: &mut Service, when: &str) {
        assert!(
            !service.has_ended(),
            "{when}: the process was ended at {} MiB",
            self.bytes >> 20
        );
        let peak = service.peak_memory_bytes();
        assert!(peak < self.bytes, "{when}: {} MiB at the peak", peak >> 20);
        eprintln!(
            "{when}: {} of {} MiB at the peak",
            peak >> 20,
            self.bytes >> 20
        );
    }
}

/// A control group with that limit (Linux, cgroup-v1/memory and cgroup-v2), if this process may make one.
fn make_group(root: &Path, file: &str, bytes: u64) -> Option<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let group = root.join(format!("ruvvector-test-{}-{number}", std::process::id()));
    std::fs::create_dir(&group).ok()?;
    let limit = group.join(file);
    // If the directory is no control group, or one without this controller, the file does not exist.
    if limit.exists() && std::fs::write(limit, bytes.to_string()).is_ok() {
        return Some(group);
    }
    let _ = std::fs::remove_dir(&group);
    None
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            let _ = std::fs::remove_dir(group);
        }
    }
}
