//! The digests of the records that the journal holds.
//!
//! **Invariant:** a record whose bytes differ from those that were written is left out: its dead letter is no reason to
//! refuse the same request again.

use std::io;
use std::time::{Duration, Instant};

use crate::event::{Position, StreamId};
use crate::journal::format::record::RecordClass;
use crate::journal::segment_index::{IndexedScan, Segment};
use crate::journal::{RequestDigest, Shared, lock};

const ZERO: [u8; 16] = [0; 16];

/// Bytes read from a segment at a time.
const WINDOW_BYTES: u64 = 1 << 20;

/// Implements [`Journal::request_digests`](crate::journal::Journal::request_digests).
pub(in crate::journal) fn request_digests(
    core: &Shared,
    since_unix_nano: i64,
    most: usize,
    patience: Duration,
) -> Vec<RequestDigest> {
    let began = Instant::now();
    let mut segments: Vec<_> = lock(&core.state)
        .streams
        .iter()
        .flat_map(|stream| {
            let held = stream.segments.iter();
            held.map(|held| (stream.id, held.segment.clone()))
        })
        .collect();
    let mut newest_first: Vec<Vec<RequestDigest>> = Vec::new();
    let mut found = 0;
    while let Some((stream, segment)) = segments.pop() {
        if found >= most || began.elapsed() >= patience {
            tracing::info!(
                requests = found,
                "of the requests that the journal holds only the newest are remembered as duplicates"
            );
            break;
        }
        match segment_digests(core, stream, &segment, since_unix_nano) {
            Ok(digested) => {
                found += digested.len();
                newest_first.push(digested);
            }
            Err(error) => {
                tracing::warn!(path = %segment.path.display(), %error, "a journal segment cannot be read");
            }
        }
        if segment.contents().first_received_unix_nano < since_unix_nano {
            break;
        }
    }
    let mut digested: Vec<_> = newest_first.into_iter().rev().flatten().collect();
    digested.drain(..digested.len().saturating_sub(most));
    digested
}

fn segment_digests(
    core: &Shared,
    stream: StreamId,
    segment: &Segment,
    since_unix_nano: i64,
) -> io::Result<Vec<RequestDigest>> {
    let file = core.disk.open(&segment.path)?;
    let mut walk = IndexedScan::new(segment, file, segment.header.first_position, WINDOW_BYTES);
    let mut digested = Vec::new();
    while let Some((found, _)) = walk.next()? {
        let header = &found.header;
        let received_unix_nano = header.source.received_unix_nano;
        if header.class == RecordClass::Data
            && header.digest != ZERO
            && received_unix_nano >= since_unix_nano
            && walk.scan.verifies(&found)?
        {
            digested.push(RequestDigest {
                position: Position {
                    stream,
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
    Ok(digested)
}
