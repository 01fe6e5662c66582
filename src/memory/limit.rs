//! The memory that this process may use: the least of the machine's memory, the control groups' limits and `RLIMIT_AS`.
//!
//! **Invariant:** a limit that cannot be read or parsed counts as absent, never as an error.

use std::path::{Path, PathBuf};

/// Returns the bytes that this process may use; `None` if no limit is found.
#[must_use]
pub fn detected_bytes() -> Option<u64> {
    [installed(), control_group(), address_space()]
        .into_iter()
        .flatten()
        .min()
}

/// Returns the machine's memory in bytes (proc(5), /proc/meminfo).
fn installed() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns `RLIMIT_AS` in bytes, which `ulimit -v` and `prlimit --as` set.
fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

/// Returns the least limit of the control group and its parents, of version 2 or 1 (Linux, cgroup-v2 and
/// cgroup-v1/memory).
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

/// Returns the location of the memory limit that a line of `/proc/self/cgroup` names: mount point, group, file.
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

/// Reads a limit in bytes; `max`, like any other text that is not a number, is no limit.
fn limit_in(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::limit_files;

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
