//! How much memory this process may use: what is installed, control groups and the address space's limit.
//!
//! **Invariant:** what cannot be read or understood is no limit, never an error.

use std::path::{Path, PathBuf};

/// The default budget for requests in flight, when there is memory enough.
const BUDGET_BYTES: usize = 256 << 20;

/// 256 MiB or a quarter of the process's memory limit, whichever is less.
pub(super) fn default_budget_bytes() -> usize {
    budget_bytes(memory_limit_bytes())
}

/// What this process may use; `None` where nothing says so.
pub(crate) fn memory_limit_bytes() -> Option<u64> {
    [installed(), control_group(), address_space()]
        .into_iter()
        .flatten()
        .min()
}

/// The budget for requests in flight, under that limit.
pub(crate) fn budget_bytes(limit: Option<u64>) -> usize {
    let quarter = limit.and_then(|limit| usize::try_from(limit / 4).ok());
    quarter.map_or(BUDGET_BYTES, |quarter| quarter.min(BUDGET_BYTES))
}

/// The machine's memory (proc(5), /proc/meminfo).
fn installed() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// `RLIMIT_AS`, as `ulimit -v` and `prlimit --as` set it.
fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

/// The least limit of the control group and its parents, of version 2 or 1 (Linux, cgroup-v2 and cgroup-v1/memory).
fn control_group() -> Option<u64> {
    let membership = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    membership
        .lines()
        .filter_map(limit_files)
        .flat_map(|(root, group, file)| {
            let group = PathBuf::from(group.trim_start_matches('/'));
            let groups: Vec<PathBuf> = group.ancestors().map(Path::to_path_buf).collect();
            groups
                .into_iter()
                .filter_map(move |group| limit_in(&Path::new(root).join(group).join(file)))
        })
        .min()
}

/// Where a line of `/proc/self/cgroup` says that a memory limit stands: mount point, group, file.
fn limit_files(line: &str) -> Option<(&'static str, &str, &'static str)> {
    let mut parts = line.splitn(3, ':');
    let (id, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
    if id == "0" && controllers.is_empty() {
        Some(("/sys/fs/cgroup", group, "memory.max"))
    } else if controllers.split(',').any(|name| name == "memory") {
        Some(("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
    } else {
        None
    }
}

/// `max`, and whatever else is no number, is no limit.
fn limit_in(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{budget_bytes, limit_files};

    #[test]
    fn the_budget_is_a_quarter_of_a_small_limit_and_never_above_256_mib() {
        assert_eq!(budget_bytes(None), 256 << 20);
        assert_eq!(budget_bytes(Some(512 << 20)), 128 << 20);
        assert_eq!(budget_bytes(Some(u64::MAX)), 256 << 20);
    }

    #[test]
    fn both_versions_of_control_groups_are_known() {
        let version_2 = limit_files("0::/system.slice/a:b.service");
        assert_eq!(
            version_2,
            Some(("/sys/fs/cgroup", "/system.slice/a:b.service", "memory.max"))
        );
        let version_1 = limit_files("9:memory:/docker/x");
        assert_eq!(
            version_1,
            Some((
                "/sys/fs/cgroup/memory",
                "/docker/x",
                "memory.limit_in_bytes"
            ))
        );
        assert_eq!(limit_files("3:cpu,cpuacct:/"), None);
    }
}
