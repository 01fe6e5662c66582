//! The digests of the records that the journal holds.
//!
//! **Invariant:** a record whose bytes differ from those that were written is left out: its dead letter is no reason to
//! refuse the same request again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::Position;
use crate::journal::aligned_buffer::AlignedBuffer;
use crate::journal::disk::Disk;
use crate::journal::format::record::RecordClass;
use crate::journal::segment_index::{IndexedScan, Segment};
use crate::journal::{Journal, RequestDigest, lock};

/// Bytes read from a segment at a time.
const WINDOW_BYTES: usize = 1 << 20;

impl Journal {
    /// Returns the synced records with a digest that were received since `since_unix_nano`, stored or not, in the order
    /// of positions: the newest `most` of them, or those of the newest that can be read within about `patience`.
    /// Blocks.
    #[must_use]
    pub fn request_digests(
        &self,
        since_unix_nano: i64,
        most: usize,
        patience: Duration,
    ) -> Vec<RequestDigest> {
        let began = Instant::now();
        let mut segments: Vec<Arc<Segment>> =
            lock(&self.shared.state).segments().cloned().collect();
        let mut newest_first: Vec<Vec<RequestDigest>> = Vec::new();
        let mut found = 0;
        while let Some(segment) = segments.pop() {
            if found >= most || began.elapsed() >= patience {
                tracing::info!(
                    requests = found,
                    "of the requests that the journal holds only the newest are remembered as duplicates"
                );
                break;
            }
            match segment_digests(&*self.shared.disk, &segment, since_unix_nano) {
                Ok(digests) => {
                    found += digests.len();
                    newest_first.push(digests);
                }
                Err(error) => {
                    tracing::warn!(path = %segment.path.display(), %error, "a journal segment cannot be read");
                }
            }
            if segment.contents().first_received_unix_nano < since_unix_nano {
                break;
            }
        }
        let mut digests: Vec<_> = newest_first.into_iter().rev().flatten().collect();
        digests.drain(..digests.len().saturating_sub(most));
        digests
    }
}

fn segment_digests(
    disk: &dyn Disk,
    segment: &Segment,
    since_unix_nano: i64,
) -> io::Result<Vec<RequestDigest>> {
    let file = disk.open(&segment.path)?;
    let window = AlignedBuffer::zeroed(WINDOW_BYTES);
    let mut walk = IndexedScan::new(segment, file, segment.header.first_position, window);
    let mut digests = Vec::new();
    while let Some((found, _)) = walk.next()? {
        let header = &found.header;
        let received_unix_nano = header.source.received_unix_nano;
        if header.class == RecordClass::Data
            && header.digest != [0; 16]
            && received_unix_nano >= since_unix_nano
            && walk.scan.verifies(&found)?
        {
            digests.push(RequestDigest {
                position: Position {
                    stream: segment.header.stream,
                    n: header.position,
                },
                digest: header.digest,
                signal: header.source.signal,
                received_unix_nano,
                payload_bytes: header.payload_bytes,
                payload_checksum: header.payload_checksum,
            });
        }
    }
    Ok(digests)
}
