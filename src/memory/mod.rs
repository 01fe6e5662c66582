//! The memory of the process: one bound, and the share of it that each stage may hold.
//!
//! | share | of the limit | at most | holds |
//! | --- | --- | --- | --- |
//! | receive | 1/4 | 256 MiB | bodies of requests in flight, as sent and decompressed |
//! | write | 5/16 | 256 MiB; no bound for one record with a large row | records that are read from the journal, and their rows on the way to the database |
//! | query | 3/16 | 640 MiB | answers, from the database's first row to the last byte sent |
//! | the rest | 1/4 | – | binary, threads, connections, the journal's window and buffers, SQLite's caches, remembered requests |
//!
//! The journal's window, of synced records that the writer has not read yet, takes 1/128 of the limit and at most 8 MiB.
//!
//! **Invariant:** the shares and the rest together never exceed the limit, unless a setting sets a share explicitly.
//! The writer keeps its share by the sizes of batches and pieces, the other stages reserve each piece from a budget.

/// Settings of the allocator that bound the freed memory it keeps.
pub mod allocator;

/// A budget of bytes, granted in pieces.
pub(crate) mod budget;

/// The limit of the whole process.
pub mod limit;

/// The shares are multiples of one sixteenth of the limit.
const PARTS: u64 = 16;

const WRITE_PARTS: u64 = 5;

// The maximum of each share, however large the limit is.
const RECEIVE_BYTES: usize = 256 << 20;
const WRITE_BYTES: usize = 256 << 20;
const QUERY_BYTES: usize = 640 << 20;
const WINDOW_BYTES: usize = 8 << 20;

/// The journal's window is this part of the limit.
const WINDOW_DIVISOR: u64 = 128;

/// Memory that a small instance needs outside the shares.
///
/// A large instance needs 115 MiB: 15 MiB for binary, runtime and threads, 40 MiB for 2,048 idle connections, 35 MiB for
/// SQLite's caches, 15 MiB for 100,000 remembered requests, and 10 MiB for the journal's window and buffers. A small one
/// has fewer connections, and fills fewer of these caches.
pub const REST_BYTES: u64 = 48 << 20;

/// Minimum memory limit: under it, each share still has room for a request, a record or an answer of some MiB.
pub const LEAST_BYTES: u64 = REST_BYTES * 4;

/// The bytes that each stage may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShares {
    /// Bodies of requests in flight; one request may use half.
    pub receive_bytes: usize,
    /// Records and their rows, from the journal to the commit. The journal may hold records of up to 64 MiB from a time
    /// when the limit was higher, so at least one of those must fit. The writer stays within this share by the sizes of
    /// its batches and pieces.
    pub write_bytes: usize,
    /// The same for one record that is written with nothing beside it: all of 5/16, as its largest row may have to be
    /// held.
    pub large_record_bytes: usize,
    /// Answers to queries.
    pub query_bytes: usize,
    /// The journal's window, a part of the rest.
    pub window_bytes: usize,
}

impl MemoryShares {
    /// Divides `limit_bytes` into the shares; `None` = no limit.
    #[must_use]
    pub fn of(limit_bytes: Option<u64>) -> Self {
        let share = |parts: u64, most: usize| {
            let share = limit_bytes.unwrap_or(u64::MAX) / PARTS * parts;
            usize::try_from(share).map_or(most, |share| share.min(most))
        };
        let window_bytes = limit_bytes.map_or(u64::MAX, |limit| limit / WINDOW_DIVISOR);
        Self {
            window_bytes: usize::try_from(window_bytes)
                .map_or(WINDOW_BYTES, |share| share.min(WINDOW_BYTES)),
            receive_bytes: share(4, RECEIVE_BYTES),
            write_bytes: share(WRITE_PARTS, WRITE_BYTES),
            large_record_bytes: share(WRITE_PARTS, usize::MAX),
            query_bytes: share(3, QUERY_BYTES),
        }
    }

    /// Returns the sum of the shares.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        self.receive_bytes as u64 + self.write_bytes as u64 + self.query_bytes as u64
    }
}

/// Returns the limit of the process under which one record may hold `record_bytes` while it is written alone.
#[must_use]
pub const fn limit_for_record(record_bytes: u64) -> u64 {
    record_bytes.div_ceil(WRITE_PARTS).saturating_mul(PARTS)
}

/// Returns the window of HTTP/2 for a memory limit: 1/1024 of it, at least 64 KiB (the protocol's default) and at most
/// 1 MiB. 100 connections that send faster than this process reads then hold a tenth of the limit.
#[must_use]
pub fn http2_window_bytes(limit_bytes: u64) -> u32 {
    const LEAST: u64 = 64 << 10;
    const MOST: u64 = 1 << 20;
    u32::try_from((limit_bytes / 1024).clamp(LEAST, MOST)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{MemoryShares, http2_window_bytes, limit_for_record};

    const MIB: usize = 1 << 20;

    #[test]
    fn the_shares_leave_a_quarter_of_the_limit_for_the_rest() {
        for (limit_mib, receive, write, large_record, query, window) in [
            (256, 64, 80, 80, 48, 2),
            (512, 128, 160, 160, 96, 4),
            (1024, 256, 256, 320, 192, 8),
            (64 << 10, 256, 256, 20 << 10, 640, 8),
        ] {
            let shares = MemoryShares::of(Some(limit_mib << 20));
            assert_eq!(
                shares,
                MemoryShares {
                    receive_bytes: receive * MIB,
                    write_bytes: write * MIB,
                    large_record_bytes: large_record * MIB,
                    query_bytes: query * MIB,
                    window_bytes: window * MIB,
                },
                "{limit_mib} MiB"
            );
            assert!(shares.total_bytes() <= (limit_mib << 20) / 4 * 3);
            let record_bytes = shares.large_record_bytes as u64;
            assert_eq!(limit_for_record(record_bytes), limit_mib << 20);
        }
        assert_eq!(MemoryShares::of(None), MemoryShares::of(Some(u64::MAX)));
    }

    #[test]
    fn the_window_of_http2_follows_the_limit_between_its_bounds() {
        for (limit_mib, window_kib) in [(32, 64), (256, 256), (1024, 1024), (64 << 10, 1024)] {
            assert_eq!(http2_window_bytes(limit_mib << 20), window_kib << 10);
        }
    }
}
