//! Records whose rows are too many to be held together: written alone, in pieces.
//!
//! **Invariant:** the batch's settings make the sizes small; the code path is that of hundreds of MiB.

use std::time::Duration;

use bytes::Bytes;
use ruvvector_service::event::{Encoding, Signal};

use super::bench::{Bench, Db, record, until};
use super::refused::{refuses_everything, refusing};
use crate::support::postgres::WAITING_TRIGGER;

/// A batch's limit, so that every record of these tests is larger and is written in several pieces.
const BATCH_BYTES: usize = 32 << 10;

/// Valid events before each other one of a record.
const BETWEEN: u64 = 700;

fn bench(dir: &tempfile::TempDir) -> Bench {
    let mut bench = Bench::new(dir.path());
    bench.options.batch_bytes = BATCH_BYTES;
    bench
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_between_small_ones_are_stored_once() {
    for db in [Db::postgres().await, Db::sqlite()] {
        let dir = directory();
        let mut bench = bench(&dir);
        for _ in 0..3 {
            bench.accept(2).await;
            bench.accept_with(&["orders"], BETWEEN, "]").await;
            bench.accept_with(&[], BETWEEN, "]").await;
            bench.accept(1).await;
        }
        bench.start(&db.options());
        bench.drained().await;
        bench.stop().await;
        db.assert_holds_exactly(bench.accepted()).await;
        assert_eq!(db.dead_letters().await, 0);
        let written = bench.progress.written();
        assert_eq!((written.events, written.records), (bench.accepted(), 12));
    }
}

// A row that the database refuses was searched in a record of hundreds of MiB that was held as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_row_of_a_large_record_is_one_dead_letter_and_all_others_are_stored() {
    for db in [Db::postgres().await, Db::sqlite()] {
        refusing(&db).await;
        let dir = directory();
        let mut bench = bench(&dir);
        let bad = ["refuse-22001", "refuse-22003", "refuse-23514"];
        bench.accept_with(&bad, BETWEEN, "]").await;
        bench.accept(1).await;
        bench.start(&db.options());
        bench.drained().await;
        bench.stop().await;
        let rows = db.number("SELECT count(*) FROM telemetry_events").await;
        let accepted = i64::try_from(bench.accepted()).expect("few");
        assert_eq!((rows, db.dead_letters().await), (accepted - 3, 3));
        let named = "SELECT count(*) FROM telemetry_dead_letters WHERE reason = 'refused' AND kind = 'row' AND events = 1
                     AND item IN (699, 1399, 2099) AND message LIKE '%not that one%'";
        assert_eq!(db.number(named).await, 3);
        let written = bench.progress.written();
        assert_eq!((written.events, written.dead_events), (2801 - 3, 3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_record_with_too_many_refused_rows_is_a_dead_letter_as_a_whole() {
    for db in [Db::postgres().await, Db::sqlite()] {
        refusing(&db).await;
        let dir = directory();
        let mut bench = bench(&dir);
        let bad = vec!["refuse-22001"; 65];
        bench.accept_with(&bad, 8, "]").await;
        bench.accept(1).await;
        bench.start(&db.options());
        bench.drained().await;
        bench.stop().await;
        assert_eq!(db.number("SELECT count(*) FROM telemetry_events").await, 1);
        let whole = "SELECT count(*) FROM telemetry_dead_letters
                     WHERE reason = 'refused' AND item IS NULL AND events = 528";
        assert_eq!((db.number(whole).await, db.dead_letters().await), (1, 1));
    }
}

// An undecodable record was noticed before any part of it was written; a large one is noticed in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_record_that_cannot_be_decoded_to_its_end_is_kept_whole_with_its_reason() {
    for db in [Db::postgres().await, Db::sqlite()] {
        let dir = directory();
        let mut bench = bench(&dir);
        bench.accept(1).await;
        bench.accept_with(&[], BETWEEN, " and more").await;
        bench.next_from(1);
        let fewer: Vec<String> = (1..=600).map(|n| super::bench::json(n, "fewer")).collect();
        let fewer = record(601, &format!("[{}]", fewer.join(",")));
        let length = fewer.payload.len();
        bench
            .journal
            .append(fewer)
            .await
            .expect("the journal takes it");
        bench.accept(1).await;
        bench.start(&db.options());
        bench.drained().await;
        bench.stop().await;
        db.assert_holds_exactly(2).await;
        assert_eq!(db.dead_letters().await, 2);
        for (reason, position, events) in [("undecodable", 2, 700), ("miscounted", 3, 601)] {
            let found = format!(
                "SELECT count(*) FROM telemetry_dead_letters WHERE reason = '{reason}' AND position = {position}
                 AND item IS NULL AND events = {events} AND kind = 'event/json' AND length(payload) >= {length}"
            );
            assert_eq!(db.number(&found).await, 1, "{reason}");
        }
        let written = bench.progress.written();
        assert_eq!((written.events, written.dead_events), (2, 1301));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_refuses_everything_costs_no_row_of_a_large_record() {
    let accept = async || {
        let dir = directory();
        let mut bench = bench(&dir);
        bench.accept_with(&[], BETWEEN, "]").await;
        (dir, bench)
    };
    refuses_everything(accept, BETWEEN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_dies_in_the_middle_of_a_large_record_has_stored_nothing_of_it() {
    let db = Db::postgres().await;
    let Db::Postgres(options) = &db else {
        unreachable!("it is one");
    };
    db.prepare().await;
    db.execute(WAITING_TRIGGER).await;
    let mut sql = <sqlx::PgConnection as sqlx::Connection>::connect_with(options)
        .await
        .expect("connects");
    let dir = directory();
    let mut bench = bench(&dir);
    bench.accept_with(&["wait"], BETWEEN, "]").await;
    bench.accept(1).await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    for _ in 0..3 {
        sqlx::query("SELECT pg_advisory_lock(7)")
            .execute(&mut sql)
            .await
            .expect("locked");
        bench.start(&db.options());
        until("the COPY waits", async || db.number(waiting).await == 1).await;
        bench.kill().await;
        sqlx::query("SELECT pg_advisory_unlock(7)")
            .execute(&mut sql)
            .await
            .expect("unlocked");
        assert_eq!(db.number("SELECT count(*) FROM telemetry_events").await, 0);
    }
    bench.start(&db.options());
    bench.drained().await;
    bench.stop().await;
    db.assert_holds_exactly(bench.accepted()).await;
}

// The server's limit on a statement applied to a whole record: one that took longer was never stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_makes_progress_is_stored_however_long_it_takes() {
    let db = Db::postgres().await;
    db.prepare().await;
    db.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON telemetry_events FOR EACH ROW EXECUTE FUNCTION slow();",
    )
    .await;
    let dir = directory();
    let mut bench = bench(&dir);
    bench.accept_with(&["orders"], BETWEEN, "]").await;
    let mut options = db.options();
    options.statement_timeout = Duration::from_secs(1);
    let began = std::time::Instant::now();
    bench.start(&options);
    bench.drained().await;
    assert!(
        began.elapsed() > Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    bench.stop().await;
    db.assert_holds_exactly(2 * BETWEEN).await;
    assert!(bench.progress.problems().is_empty());
}

/// Spans, each in a scope of its own.
fn scopes(count: usize) -> Vec<u8> {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    let scope_spans = (0..count).map(|n| ScopeSpans {
        scope: Some(InstrumentationScope {
            name: format!("{n} {}", "x".repeat(1500)),
            ..Default::default()
        }),
        spans: vec![Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: "one".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    });
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: scope_spans.collect(),
            ..Default::default()
        }],
    };
    prost::Message::encode_to_vec(&request)
}

// Resources of 64 MiB of one request were held three times before its rows were written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_resources_of_a_large_record_are_stored_before_its_rows_that_refer_to_them() {
    for db in [Db::postgres().await, Db::sqlite()] {
        let dir = directory();
        let mut bench = bench(&dir);
        let payload = scopes(3000);
        let mut spans = record(3000, "");
        spans.source.signal = Signal::Span;
        spans.source.encoding = Encoding::Protobuf;
        spans.decoded_bytes = u32::try_from(payload.len()).expect("short");
        spans.payload = Bytes::from(payload);
        bench
            .journal
            .append(spans)
            .await
            .expect("the journal takes it");
        bench.start(&db.options());
        bench.drained().await;
        bench.stop().await;
        let joined = "SELECT count(DISTINCT r.id) FROM telemetry_events e JOIN telemetry_resources r ON r.id = e.resource_id";
        assert_eq!(db.number(joined).await, 3000);
        assert_eq!(db.dead_letters().await, 0);
    }
}

// A dead letter of 64 MiB was held four times while it was written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_larger_than_a_statement_may_hold_is_kept_to_its_last_byte() {
    const BYTES: usize = 40 << 20;
    for db in [Db::postgres().await, Db::sqlite()] {
        let dir = directory();
        let mut bench = bench(&dir);
        let garbage = "#".repeat(BYTES - 1) + "!";
        bench
            .journal
            .append(record(5, &garbage))
            .await
            .expect("taken");
        bench.start(&db.options());
        bench.drained().await;
        bench.stop().await;
        let all = "SELECT CAST(sum(length(payload)) AS BIGINT) FROM telemetry_dead_letters WHERE position = 1";
        assert_eq!(db.number(all).await, i64::try_from(BYTES).expect("fits"));
        let events = "SELECT CAST(sum(events) AS BIGINT) FROM telemetry_dead_letters WHERE reason = 'undecodable'";
        assert_eq!(db.number(events).await, 5);
        let parts = match db {
            Db::Postgres(_) => 1,
            Db::Sqlite(_) => 3,
        };
        assert_eq!(db.dead_letters().await, parts);
    }
}
