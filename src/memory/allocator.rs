//! The memory that the C library's allocator keeps of what was freed.
//!
//! glibc asks the kernel for each piece over a threshold by itself and gives it back when it is freed. By default it raises that
//! threshold to the largest piece that was freed, up to 32 MiB, and keeps freed memory below it, in up to eight arenas for each
//! core: after some bodies of 24 MiB that alone was more than 100 MiB. A threshold that the environment names stays as it is; as
//! the allocator reads it before `main`, the process replaces itself once.
//!
//! **Invariant:** the process keeps its id, arguments and descriptors, and a threshold that somebody set.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// mallopt(3), `M_MMAP_THRESHOLD`: the buffers of ordinary requests, of some hundred kilobytes, stay in the arenas.
const THRESHOLD: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "1048576");

/// mallopt(3), `M_ARENA_MAX`.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "4");

/// Sees to it that freed memory goes back to the kernel; to be called before any thread is started. Where the process cannot
/// replace itself, it goes on as it is.
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
