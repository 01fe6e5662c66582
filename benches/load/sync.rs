//! The bare disk: what one synced write costs with nothing around it.
//!
//! **Invariant:** the file is zero-filled and synced before the first write counts.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use crate::send::percentile_ms;

const PIECE: usize = 64 << 10;

pub(crate) fn measure(file: &str, count: usize) -> String {
    let mut out = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(file)
        .expect("the file can be made");
    let zeros = vec![0; PIECE];
    for _ in 0..count {
        out.write_all(&zeros).expect("there is room");
    }
    out.sync_all().expect("the disk syncs");
    out.seek(SeekFrom::Start(0)).expect("it is a file");
    let piece = vec![7; PIECE];
    let mut took: Vec<Duration> = (0..count)
        .map(|_| {
            let began = Instant::now();
            out.write_all(&piece).expect("there is room");
            out.sync_data().expect("the disk syncs");
            began.elapsed()
        })
        .collect();
    let _ = std::fs::remove_file(file);
    format!(
        r#"{{"p50_ms":{:.3},"p99_ms":{:.3}}}"#,
        percentile_ms(&mut took, 50),
        percentile_ms(&mut took, 99)
    )
}
