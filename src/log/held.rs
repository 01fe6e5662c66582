//! A segment that the directory holds, as memory knows it: what is in it, and where.
//!
//! **Invariant:** its contents speak of synced records alone; waypoints take a fixed share of its length.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};
use super::lock;
use super::ranges::Ranges;
use super::record::Class;
use super::scan::{Found, Scan};
use super::segment::{BLOCK_BYTES, Contents, Header};
use super::survey::Identity;

/// A waypoint stands about every so many bytes.
const WAYPOINT_BYTES: u64 = 64 << 10;

/// Events and bytes of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

impl Sums {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            bytes: self.bytes + other.bytes,
        }
    }

    /// Never below nothing: what a lost header said is in no sum but the segment's own.
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            events: self.events.saturating_sub(other.events),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl Contents {
    pub(super) fn sums(&self) -> Sums {
        Sums {
            events: self.events,
            bytes: self.bytes,
        }
    }
}

/// Where a record starts, and the sums of all before it in its segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waypoint {
    pub(super) n: u64,
    pub(super) offset: u64,
    pub(super) sums: Sums,
    /// Receive time of the record, Unix nanoseconds.
    pub(super) received: i64,
}

/// A record that was appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) events: u32,
    pub(super) received: i64,
}

/// One segment.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    pub(super) identity: Identity,
    facts: Mutex<Facts>,
}

/// What changes of a segment.
pub(super) struct Facts {
    pub(super) contents: Contents,
    pub(super) sealed: bool,
    /// Damaged positions that were counted.
    pub(super) reported: Ranges,
    /// Whether a copy was put aside, or need not be.
    pub(super) set_aside: bool,
    waypoints: Vec<Waypoint>,
    /// The place that was sought last: the next batch begins where the last one ended.
    sought: Waypoint,
}

impl Segment {
    pub(super) fn new(path: PathBuf, header: Header, sealed: Option<Contents>) -> Self {
        let first = Waypoint {
            n: header.base,
            offset: BLOCK_BYTES,
            received: sealed.map_or(0, |contents| contents.first_received),
            ..Waypoint::default()
        };
        Self {
            path,
            header,
            identity: Identity::FirstBlock,
            facts: Mutex::new(Facts {
                contents: sealed.unwrap_or(Contents {
                    last: header.base - 1,
                    end: BLOCK_BYTES,
                    ..Contents::default()
                }),
                sealed: sealed.is_some(),
                reported: Ranges::default(),
                set_aside: false,
                waypoints: vec![first],
                sought: first,
            }),
        }
    }

    /// As it was found at the opening.
    pub(super) fn found(
        path: PathBuf,
        header: Header,
        identity: Identity,
        contents: Contents,
    ) -> Self {
        Self {
            identity,
            ..Self::new(path, header, Some(contents))
        }
    }

    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.facts)
    }

    pub(super) fn contents(&self) -> Contents {
        self.facts().contents
    }

    /// The highest position; the base less one when there is none.
    pub(super) fn last(&self) -> u64 {
        self.facts().contents.last
    }

    /// The sums of all before position `n`, and the receive time of the record there. Where the disk cannot be read,
    /// those of the nearest waypoint before.
    pub(super) fn sums_before(&self, disk: &dyn Disk, n: u64) -> Waypoint {
        let contents = self.contents();
        if n > contents.last {
            return Waypoint {
                n,
                offset: contents.end,
                sums: contents.sums(),
                received: 0,
            };
        }
        let near = self.facts().waypoint(n);
        if near.n == n {
            return near;
        }
        let walked = disk.open(&self.path).and_then(|file| {
            let mut walk = Walk::new(self, file, n, WAYPOINT_BYTES);
            while let Some((found, here)) = walk.next()? {
                if found.header.n >= n {
                    return Ok(Some(here));
                }
            }
            Ok(None)
        });
        match walked {
            Ok(Some(found)) => {
                self.facts().sought = found;
                found
            }
            Ok(None) => near,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "a log segment cannot be read");
                near
            }
        }
    }
}

impl Facts {
    /// Takes in records that have been synced, in order, and where their group ended.
    pub(super) fn append(&mut self, appended: &[Appended], end: u64) {
        for record in appended {
            let contents = &mut self.contents;
            if contents.records == 0 {
                contents.first_received = record.received;
            }
            contents.last += 1;
            let here = Waypoint {
                n: contents.last,
                offset: record.offset,
                sums: contents.sums(),
                received: record.received,
            };
            contents.records += 1;
            contents.events += u64::from(record.events);
            contents.bytes += record.bytes;
            if here.n == self.waypoints[0].n {
                self.waypoints = vec![here];
                self.sought = here;
            } else {
                self.pass(here);
            }
        }
        self.contents.end = end;
    }

    /// Takes in that the segment begins with positions that were never written, in a group of its own.
    pub(super) fn begin_with_hole(&mut self, positions: u64, bytes: u64, end: u64, now: i64) {
        self.contents.last += positions;
        self.contents.bytes += bytes;
        self.contents.end = end;
        self.contents.first_received = now;
        self.waypoints[0].received = now;
    }

    /// Keeps a waypoint if it is far enough from the last.
    fn pass(&mut self, here: Waypoint) {
        let last = self.waypoints[self.waypoints.len() - 1];
        if here.n > last.n && here.offset >= last.offset + WAYPOINT_BYTES {
            self.waypoints.push(here);
        }
    }

    /// The nearest waypoint at or before `n`.
    fn waypoint(&self, n: u64) -> Waypoint {
        let after = self.waypoints.partition_point(|waypoint| waypoint.n <= n);
        let near = self.waypoints[after.saturating_sub(1)];
        if near.n < self.sought.n && self.sought.n <= n {
            self.sought
        } else {
            near
        }
    }
}

/// A walk over a segment's synced records that keeps the sums and leaves waypoints.
pub(super) struct Walk<'a> {
    segment: &'a Segment,
    pub(super) scan: Scan,
    /// Where the walk began.
    pub(super) start: u64,
    sums: Sums,
}

impl<'a> Walk<'a> {
    /// Starts at the waypoint before position `n`.
    pub(super) fn new(
        segment: &'a Segment,
        file: Arc<dyn DiskFile>,
        n: u64,
        window_bytes: u64,
    ) -> Self {
        let facts = segment.facts();
        let start = facts.waypoint(n);
        let window = usize::try_from(window_bytes).unwrap_or(usize::MAX);
        Self {
            segment,
            scan: Scan::new(
                file,
                segment.header.nonce,
                (start.n, start.offset),
                facts.contents.end,
                window,
            ),
            start: start.offset,
            sums: start.sums,
        }
    }

    /// The next record that has a position, with the sums of all before it.
    pub(super) fn next(&mut self) -> io::Result<Option<(Found, Waypoint)>> {
        while let Some(found) = self.scan.next()? {
            if found.header.class == Class::Mark {
                continue;
            }
            let here = Waypoint {
                n: found.header.n,
                offset: found.offset,
                sums: self.sums,
                received: found.header.source.received_unix_nano,
            };
            self.segment.facts().pass(here);
            self.sums = self.sums.and(Sums {
                events: u64::from(found.header.accepted),
                bytes: found.header.total_bytes(),
            });
            return Ok(Some((found, here)));
        }
        Ok(None)
    }
}
