//! Settings of the C library's allocator that bound the freed memory it keeps.
//!
//! glibc maps each allocation above a threshold separately, and unmaps it when it is freed. By default it raises that
//! threshold to the largest freed allocation, up to 32 MiB. Freed memory below the threshold stays in up to eight
//! arenas per core: after some bodies of 24 MiB, that alone was more than 100 MiB. A fixed threshold prevents this.
//!
//! The allocator reads the threshold from the environment before `main`, so the process sets it and executes itself
//! again, once. A threshold that the environment already sets is kept.
//!
//! **Invariant:** the process keeps its id, arguments and descriptors, and a threshold that the environment set.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// mallopt(3), `M_MMAP_THRESHOLD`: 1 MiB, so that buffers of ordinary requests (some hundred kilobytes) stay in the
/// arenas.
const THRESHOLD: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "1048576");

/// mallopt(3), `M_ARENA_MAX`.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "4");

/// Makes the allocator return freed memory to the kernel, by executing this process again with a fixed threshold.
///
/// Must be called before any thread is started. If the execution fails, the process continues with the allocator's
/// defaults.
pub fn give_back_freed() {
    if std::env::var_os(THRESHOLD.0).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    if std::env::var_os(ARENAS.0).is_none() {
        again.env(ARENAS.0, ARENAS.1);
    }
    // Returns only if it failed.
    let _not_replaced = again.args(arguments).env(THRESHOLD.0, THRESHOLD.1).exec();
}
