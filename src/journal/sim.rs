//! A disk that forgets, for tests: it keeps the bytes that survive a power cut apart from those that programs see.
//!
//! **Invariant:** after a cut, synced bytes are there, however they were written; each other sector is kept or lost by
//! chance, and a file whose directory was not synced may be lost, or be back. A direct read or write that is not
//! aligned fails, and so does a read through the page cache of what this process wrote directly.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::journal::disk::Space;

use crate::journal::sim::image::Image;

/// The contents of a file.
mod image;

/// The operations of a disk.
mod operations;

/// A fault of an operation; writes and syncs are those of segments, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The k-th sync fails, and no later one does.
    Sync(u64),
    /// The k-th sync panics.
    Panic(u64),
    /// The k-th write writes only a part of its bytes.
    ShortWrite(u64),
    /// The k-th write is interrupted before it writes.
    InterruptedWrite(u64),
    /// The k-th write finds no space.
    FullWrite(u64),
    /// The k-th allocation finds no space.
    FullAllocation(u64),
}

/// The step at which a file system that has no direct I/O refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DirectRefusal {
    Open,
    FirstRead,
    FirstWrite,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<u64, Image>,
    /// The directory as programs see it; `durable` is the part of it that survives a power cut.
    live: BTreeMap<PathBuf, u64>,
    durable: BTreeMap<PathBuf, u64>,
    next_file: u64,
    locked: BTreeSet<PathBuf>,
    /// Number of power cuts; files that were opened before the last one fail.
    cuts: u64,
    faults: Vec<Fault>,
    writes: u64,
    syncs: u64,
    segment_syncs: u64,
    allocations: u64,
    syncs_held: bool,
    syncs_waiting: u64,
    /// Writes and syncs of files after one of their syncs failed.
    after_failure: Vec<String>,
    failed: BTreeSet<u64>,
    space: Space,
    /// The system has no descriptors.
    starved: bool,
    unremovable: bool,
    /// Bytes that may still be written, as on a full file system that copies overwritten blocks.
    room: Option<usize>,
    /// One in this many reads returns a wrong byte; 0 = none.
    misread_every: u64,
    reads: u64,
    /// A byte that the next reads of it return wrong: file, offset, number of reads.
    misread_byte: Option<(u64, usize, u32)>,
    largest_write: usize,
    direct_refusal: Option<DirectRefusal>,
    /// Files that the process in use has written directly: the page cache may hold older bytes of them.
    written_directly: BTreeSet<u64>,
    direct_writes: u64,
    /// Number of changes that are still made before the disk dies.
    fuse: Option<u64>,
}

/// The disk; clones are the same.
#[derive(Clone)]
pub(super) struct SimDisk {
    inner: Arc<(Mutex<Inner>, Condvar)>,
    /// The number of power cuts at its creation: later cuts make it fail.
    born: u64,
}

/// Makes syncs wait until it is dropped.
pub(super) struct HeldSyncs(SimDisk);

impl Drop for HeldSyncs {
    fn drop(&mut self) {
        self.0.inner().syncs_held = false;
        self.0.inner.1.notify_all();
    }
}

impl SimDisk {
    pub(super) fn new() -> Self {
        let inner = Inner {
            space: Space {
                free_bytes: 1 << 40,
                size_bytes: 1 << 41,
            },
            ..Inner::default()
        };
        Self {
            inner: Arc::new((Mutex::new(inner), Condvar::new())),
            born: 0,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A test that panics with this lock held must still be able to let the syncs proceed.
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.inner();
        if inner.cuts == self.born {
            Ok(inner)
        } else {
            Err(io::Error::other("the power was cut"))
        }
    }

    /// Like `alive`, for operations that change something.
    fn changing(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.alive()?;
        match &mut inner.fuse {
            None => {}
            Some(0) => return Err(io::Error::other("the disk died")),
            Some(left) => *left -= 1,
        }
        Ok(inner)
    }

    /// Makes the disk die after this many changes; a power cut brings it back.
    pub(super) fn die_after(&self, changes: u64) {
        self.inner().fuse = Some(changes);
    }

    /// Cuts the power. `chance` decides each thing that may go either way. Returns the disk as the next start finds it.
    pub(super) fn cut(&self, chance: &mut dyn FnMut() -> bool) -> Self {
        let mut inner = self.inner();
        inner.cuts += 1;
        inner.locked.clear();
        inner.syncs_held = false;
        inner.fuse = None;
        let paths: BTreeSet<PathBuf> = inner
            .live
            .keys()
            .chain(inner.durable.keys())
            .cloned()
            .collect();
        let mut files = BTreeMap::new();
        for path in paths {
            let (live, durable) = (
                inner.live.get(&path).copied(),
                inner.durable.get(&path).copied(),
            );
            let kept = if live == durable || chance() {
                durable
            } else {
                live
            };
            if let Some(id) = kept {
                files.insert(path, id);
            }
        }
        inner.live.clone_from(&files);
        inner.durable = files;
        for image in inner.files.values_mut() {
            image.cut(chance);
        }
        self.inner.1.notify_all();
        Self {
            inner: self.inner.clone(),
            born: inner.cuts,
        }
    }

    /// Brings a dead disk back as a new process finds it: everything written is there, synced or not.
    pub(super) fn revive(&self) {
        self.inner().fuse = None;
    }

    /// Makes every opening and creation of a file fail, or lets them succeed again.
    pub(super) fn starve(&self, starved: bool) {
        self.inner().starved = starved;
    }

    /// Makes the disk refuse direct I/O from now on.
    pub(super) fn refuse_direct(&self, refusal: DirectRefusal) {
        self.inner().direct_refusal = Some(refusal);
    }

    /// Returns the number of direct writes so far.
    pub(super) fn direct_writes(&self) -> u64 {
        self.inner().direct_writes
    }

    /// Returns the number of reads so far.
    pub(super) fn reads(&self) -> u64 {
        self.inner().reads
    }

    /// Makes every `k`-th read return one wrong byte from now on; 0 = none.
    pub(super) fn misread_every(&self, k: u64) {
        self.inner().misread_every = k;
    }

    /// Makes the next `times` reads of the byte at `offset` of the file return it wrong.
    pub(super) fn misread_next(&self, path: &Path, offset: usize, times: u32) {
        let mut inner = self.inner();
        inner.misread_byte = Some((inner.live[path], offset, times));
    }

    /// Limits the bytes that may still be written, allocated or not, as on a full file system that copies overwritten
    /// blocks.
    pub(super) fn set_room(&self, bytes: Option<usize>) {
        self.inner().room = bytes;
    }

    /// Makes every removal of a file fail from now on.
    pub(super) fn keep_files(&self) {
        self.inner().unremovable = true;
    }

    /// Lets removals of files succeed again.
    pub(super) fn let_files_go(&self) {
        self.inner().unremovable = false;
    }

    /// Removes all injected faults.
    pub(super) fn forget_faults(&self) {
        self.inner().faults.clear();
    }

    pub(super) fn largest_write(&self) -> usize {
        self.inner().largest_write
    }

    /// Returns the number of bytes that were written and not synced.
    pub(super) fn unsynced_bytes(&self) -> usize {
        let inner = self.inner();
        let dirty = inner.files.values().flat_map(|image| &image.dirty);
        dirty.map(|(_, bytes)| bytes.len()).sum()
    }

    pub(super) fn inject(&self, fault: Fault) {
        let mut inner = self.inner();
        inner.writes = 0;
        inner.syncs = 0;
        inner.segment_syncs = 0;
        inner.allocations = 0;
        inner.faults.push(fault);
    }

    pub(super) fn set_space(&self, space: Space) {
        self.inner().space = space;
    }

    pub(super) fn set_free(&self, free_bytes: u64) {
        self.inner().space.free_bytes = free_bytes;
    }

    /// Makes every sync of a file wait until the returned value is dropped, also if the test panics: the journal's
    /// threads, which are joined later, wait no longer than that.
    #[must_use]
    pub(super) fn hold_syncs(&self) -> HeldSyncs {
        self.inner().syncs_held = true;
        HeldSyncs(self.clone())
    }

    /// Waits until a sync is waiting.
    pub(super) fn sync_waits(&self) {
        let long = std::time::Duration::from_secs(60);
        let waited = self
            .inner
            .1
            .wait_timeout_while(self.inner(), long, |inner| inner.syncs_waiting == 0)
            .unwrap();
        assert!(!waited.1.timed_out(), "nobody syncs");
    }

    /// Returns the number of syncs of files so far.
    pub(super) fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// Returns the writes and syncs of files after one of their syncs failed.
    pub(super) fn after_failure(&self) -> Vec<String> {
        self.inner().after_failure.clone()
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.inner().live.keys().cloned().collect()
    }

    pub(super) fn content(&self, path: &Path) -> Vec<u8> {
        let inner = self.inner();
        inner.files[&inner.live[path]].live.clone()
    }

    /// Creates a file with this content, durably.
    pub(super) fn put(&self, path: &Path, content: &[u8]) {
        let mut inner = self.inner();
        let id = inner.next_file;
        inner.next_file += 1;
        inner.files.insert(
            id,
            Image {
                live: content.to_vec(),
                durable: content.to_vec(),
                dirty: Vec::new(),
            },
        );
        inner.live.insert(path.to_owned(), id);
        inner.durable.insert(path.to_owned(), id);
    }

    /// Changes a file directly, durably.
    pub(super) fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner();
        let id = inner.live[path];
        let image = inner.files.get_mut(&id).unwrap();
        edit(&mut image.live);
        image.durable.clone_from(&image.live);
        image.dirty.clear();
    }
}
