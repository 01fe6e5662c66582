//! Floor: the rows of a binary COPY file, copied again in batches over several connections at once.
//!
//! Programs of `psql` would each parse the file and start anew for every batch; here a batch is a slice of memory that is sent
//! as it is, so that only the server's work is left.
//!
//! **Invariant:** each batch is one transaction, and the server's counts add up to the rows of the file.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;

use crate::arguments::Arguments;

/// Signature, flags and length of the extension: `PostgreSQL`, COPY, "Binary Format".
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = [0xff; 2];
/// Bytes of one message to the server.
const PIECE: usize = 256 << 10;

/// Copies whole tuples in one transaction and returns the server's count.
pub(crate) async fn copy_batch(
    connection: &mut PgConnection,
    statement: &str,
    tuples: &[u8],
) -> u64 {
    let mut copy = connection
        .copy_in_raw(statement)
        .await
        .expect("the server accepts the statement");
    copy.send(HEADER).await.expect("the server reads");
    for piece in tuples.chunks(PIECE) {
        copy.send(piece).await.expect("the server reads");
    }
    copy.send(&TRAILER[..]).await.expect("the server reads");
    copy.finish().await.expect("the server accepts the rows")
}

/// Splits the bytes of a COPY file into batches of `rows` tuples.
fn batches(bytes: &[u8], rows: usize) -> Vec<Range<usize>> {
    let integer = |at: usize, length: usize| {
        bytes[at..at + length]
            .iter()
            .fold(0_usize, |value, byte| value << 8 | usize::from(*byte))
    };
    let (mut batches, mut at, mut count) = (Vec::new(), HEADER.len(), 0);
    let mut from = at;
    while bytes[at..at + 2] != TRAILER {
        let fields = integer(at, 2);
        at += 2;
        for _ in 0..fields {
            let length = integer(at, 4);
            // A length of -1 is NULL.
            at += 4 + if length == 0xffff_ffff { 0 } else { length };
        }
        count += 1;
        if count == rows {
            batches.push(from..at);
            (from, count) = (at, 0);
        }
    }
    if from < at {
        batches.push(from..at);
    }
    batches
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) async fn measure(arguments: &Arguments) -> String {
    let url = arguments.text("url");
    let statement: Arc<str> = arguments.text("statement").into();
    let rows = arguments.number("batch");
    let rate: Option<u64> = arguments.optional_number("rate");
    let bytes: Arc<[u8]> = std::fs::read(arguments.text("file"))
        .expect("the file can be read")
        .into();
    let batches: Arc<[Range<usize>]> = batches(&bytes, rows).into();
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = Vec::new();
    for _ in 0..arguments.number::<u32>("connections") {
        let connection = PgConnection::connect(url).await;
        connections.push(connection.expect("the server answers"));
    }
    let began = Instant::now();
    let mut copying = JoinSet::new();
    for mut connection in connections {
        let (statement, next) = (statement.clone(), next.clone());
        let (bytes, batches) = (bytes.clone(), batches.clone());
        copying.spawn(async move {
            let mut copied = 0;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(n) else {
                    return copied;
                };
                if let Some(rate) = rate {
                    // Rows that arrive at `rate` are a whole batch only at its end.
                    let arrived = u64::try_from((n + 1) * rows).expect("fits");
                    let due = began + Duration::from_nanos(arrived * 1_000_000_000 / rate);
                    tokio::time::sleep_until(due.into()).await;
                }
                copied += copy_batch(&mut connection, &statement, &bytes[batch.clone()]).await;
            }
        });
    }
    let copied: u64 = copying.join_all().await.into_iter().sum();
    let seconds = began.elapsed().as_secs_f64();
    format!(
        r#"{{"rows":{copied},"seconds":{seconds:.3},"rows_per_s":{:.0}}}"#,
        copied as f64 / seconds
    )
}
