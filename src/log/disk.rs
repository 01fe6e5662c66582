//! The few file operations that the log uses, and the real ones.
//!
//! **Invariant:** nothing else in the log touches the file system.

/// The file operations of the log; the crash tests bring a disk that forgets.
pub trait Disk: Send + Sync + 'static {}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl Disk for OsDisk {}
