//! One append of 4 KiB, by 1, 16 and 128 writers at once, beside the bare write and sync, which is its floor.
//!
//! Each iteration is one append by every writer: its time is the latency that the slowest of them sees.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use ruvvector_service::decode::VERSION;
use ruvvector_service::event::ContentEncoding;
use ruvvector_service::event::{Encoding, Signal};
use ruvvector_service::event::{Limits, Source};
use ruvvector_service::journal::disk::OsDisk;
use ruvvector_service::journal::{Journal, NewRecord, Options};

/// Header and payload together fill one group.
const PAYLOAD_BYTES: usize = 4096 - 128;

fn record(payload: &Bytes) -> NewRecord {
    NewRecord {
        source: Source {
            signal: Signal::Span,
            encoding: Encoding::Protobuf,
            partial: false,
            received_unix_nano: 1_700_000_000_000_000_000,
            limits: Limits::default(),
            version: VERSION,
        },
        content_encoding: ContentEncoding::Identity,
        decoded_bytes: 0,
        accepted: 1,
        rejected: 0,
        digest: [0; 16],
        payload: payload.clone(),
    }
}

fn floor(c: &mut Criterion) {
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let file = File::create(dir.path().join("floor")).expect("a file");
    let zeros = vec![0; 64 << 20];
    file.write_all_at(&zeros, 0).expect("zeros");
    file.sync_all().expect("synced");
    let block = vec![1; 4096];
    let mut at = 0;
    c.bench_function("floor: pwrite and fdatasync of 4 KiB", |b| {
        b.iter(|| {
            file.write_all_at(&block, at).expect("written");
            file.sync_data().expect("synced");
            at = (at + 4096) % (64 << 20);
        });
    });
}

fn append(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    let payload = Bytes::from(vec![1; PAYLOAD_BYTES]);
    for writers in [1, 16, 128] {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let options = Options {
            dir: dir.path().to_owned(),
            budget_bytes: Some(4 << 30),
            segment_bytes: Some(64 << 20),
            free_floor_bytes: Some(0),
            keep_stored: Duration::ZERO,
            ..Options::default()
        };
        let journal = Journal::open(Arc::new(OsDisk), &options).expect("an empty log opens");
        let stream = journal.streams()[0].id;
        c.bench_function(&format!("append of 4 KiB, {writers} at once"), |b| {
            b.iter(|| {
                let last = runtime.block_on(async {
                    let appends = (0..writers).map(|_| journal.append(record(&payload)));
                    futures_util::future::join_all(appends).await
                });
                let last = last
                    .into_iter()
                    .filter_map(Result::ok)
                    .map(|position| position.n)
                    .max();
                // As the writer does, so that the budget never fills.
                let last = last.expect("an append succeeds");
                journal.mark_stored(stream, last.saturating_sub(2 * writers), last);
            });
        });
        runtime.block_on(journal.close());
    }
}

criterion_group!(benches, floor, append);
criterion_main!(benches);
