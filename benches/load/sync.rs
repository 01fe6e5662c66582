//! Floor: the bytes of requests, written and synced by one thread at the times when they are due.
//!
//! **Invariant:** the file is zero-filled and synced before the first write counts, and every write starts and ends on 4 KiB.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::bodies::{Bodies, Kind};
use crate::timing::{percentile_ms, wait_until, write_samples};

const FILE_BYTES: usize = 64 << 20;
const BLOCK: usize = 4 << 10;

pub(crate) fn measure(arguments: &Arguments) -> String {
    let spans: u64 = arguments.number("spans");
    let rate: u64 = arguments.number("rate");
    let writes = arguments.number::<u64>("seconds") * rate / spans;
    let bodies = Bodies::new(Kind::Spans, spans);
    let file = arguments.text("file");
    let mut out = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(file)
        .expect("the file can be made");
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES / zeros.len() {
        out.write_all(&zeros).expect("there is room");
    }
    out.sync_all().expect("the disk syncs");
    let mut at = FILE_BYTES;
    let began = Instant::now();
    let mut took: Vec<Duration> = (0..writes)
        .map(|n| {
            let due = began + Duration::from_nanos(n * 1_000_000_000 * spans / rate);
            wait_until(due);
            let mut bytes = bodies.body(n).bytes.to_vec();
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            if at + bytes.len() > FILE_BYTES {
                out.seek(SeekFrom::Start(0)).expect("it is a file");
                at = 0;
            }
            out.write_all(&bytes).expect("there is room");
            out.sync_data().expect("the disk syncs");
            at += bytes.len();
            due.elapsed()
        })
        .collect();
    let _ = std::fs::remove_file(file);
    if let Some(file) = arguments.optional_text("samples") {
        write_samples(file, &took);
    }
    format!(
        r#"{{"writes":{writes},"p50_ms":{:.3},"p99_ms":{:.3}}}"#,
        percentile_ms(&mut took, 50),
        percentile_ms(&mut took, 99)
    )
}
