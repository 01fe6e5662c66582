//! Rows that the database refuses, and records that cannot be decoded again.
//!
//! **Invariant:** only a row or record that is at fault becomes a dead letter.

use tempfile::TempDir;

use super::bench::{Bench, Db, json, record, until};

/// SQLSTATEs that are a row's own fault.
const ROW_FAULTS: [&str; 9] = [
    "22001", "22003", "22021", "22P02", "22P05", "23502", "23505", "23514", "54000",
];

/// The table refuses the rows whose integration is `refuse-<SQLSTATE>`, with that SQLSTATE.
const REFUSING_POSTGRES: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.integration LIKE 'refuse-%' THEN
            RAISE EXCEPTION 'not that one' USING ERRCODE = substr(NEW.integration, 8), CONSTRAINT = 'ours';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON telemetry_events FOR EACH ROW EXECUTE FUNCTION refuse();";

const REFUSING_SQLITE: &str = "
    CREATE TRIGGER refuse BEFORE INSERT ON telemetry_events WHEN NEW.integration LIKE 'refuse-%'
    BEGIN SELECT RAISE(ABORT, 'not that one'); END;";

pub(super) async fn refusing(db: &Db) {
    db.prepare().await;
    db.execute(match db {
        Db::Postgres(_) => REFUSING_POSTGRES,
        Db::Sqlite(_) => REFUSING_SQLITE,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refused_row_is_one_dead_letter_and_all_others_are_stored() {
    for db in [Db::postgres().await, Db::sqlite()] {
        refusing(&db).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut bench = Bench::new(dir.path());
        for sqlstate in ROW_FAULTS {
            bench.accept(500).await;
            let bad = format!("refuse-{sqlstate}");
            bench.accept_of(&["orders", "orders", &bad, "orders"]).await;
        }
        bench.start(&db.options());
        bench.drained().await;
        bench.stop().await;
        let rows = db.number("SELECT count(*) FROM telemetry_events").await;
        let refused = i64::try_from(ROW_FAULTS.len()).expect("few");
        let accepted = i64::try_from(bench.accepted()).expect("few");
        assert_eq!(
            (rows, db.dead_letters().await),
            (accepted - refused, refused)
        );
        let named = "SELECT count(*) FROM telemetry_dead_letters
                     WHERE reason = 'refused' AND kind = 'row' AND item = 2 AND events = 1 AND message LIKE '%not that one%'";
        assert_eq!(db.number(named).await, refused);
        if let Db::Postgres(_) = db {
            let states = "SELECT count(DISTINCT sqlstate) FROM telemetry_dead_letters
                          WHERE 'refuse-' || sqlstate = convert_from(payload, 'UTF8')::jsonb ->> 'integration'";
            assert_eq!(db.number(states).await, refused);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_bad_rows_alone_goes_to_the_dead_letters_when_good_rows_pass() {
    for db in [Db::postgres().await, Db::sqlite()] {
        refusing(&db).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut bench = Bench::new(dir.path());
        for _ in 0..20 {
            bench.accept_of(&["refuse-22001"; 10]).await;
        }
        bench.start(&db.options());
        bench.drained().await;
        bench.stop().await;
        assert_eq!(db.number("SELECT count(*) FROM telemetry_events").await, 0);
        assert_eq!(db.dead_letters().await, 200);
        let events = "SELECT CAST(sum(events) AS BIGINT) FROM telemetry_dead_letters";
        assert_eq!(db.number(events).await, 200);
    }
}

/// On both stores: while the table refuses every row, no event becomes a dead letter and the problem names the cause.
/// Once it accepts them, all `accepted` are stored.
pub(super) async fn refuses_everything(accept: impl AsyncFn() -> (TempDir, Bench), accepted: u64) {
    let postgres = (
        "ALTER TABLE telemetry_events ADD CONSTRAINT nothing CHECK (timestamp < 0)",
        "ALTER TABLE telemetry_events DROP CONSTRAINT nothing",
    );
    let sqlite = (
        "CREATE TRIGGER refuse_all BEFORE INSERT ON telemetry_events BEGIN SELECT RAISE(ABORT, 'no'); END",
        "DROP TRIGGER refuse_all",
    );
    for (db, (constrain, free)) in [(Db::postgres().await, postgres), (Db::sqlite(), sqlite)] {
        db.prepare().await;
        db.execute(constrain).await;
        let (_dir, mut bench) = accept().await;
        bench.start(&db.options());
        until("the problem says where to look", async || {
            let problems = bench.problems.sentences();
            problems
                .iter()
                .any(|problem| problem.contains("constraints and triggers"))
        })
        .await;
        assert_eq!(db.dead_letters().await, 0);
        db.execute(free).await;
        bench.drained().await;
        bench.stop().await;
        db.assert_holds_exactly(accepted).await;
        assert_eq!(db.dead_letters().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_refuses_everything_is_our_fault_and_costs_no_event() {
    let accept = async || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut bench = Bench::new(dir.path());
        bench.accept(3).await;
        bench.accept(1).await;
        (dir, bench)
    };
    refuses_everything(accept, 4).await;
}

/// Refuses the first row it sees, whichever it is, and no other: a sequence is not rolled back.
const REFUSING_ONCE: &str = "
    CREATE SEQUENCE rows_seen;
    CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('rows_seen') = 1 THEN
            RAISE EXCEPTION 'not now' USING ERRCODE = '23514', CONSTRAINT = 'ours';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse_once BEFORE INSERT ON telemetry_events FOR EACH ROW EXECUTE FUNCTION refuse_once();";

/// As if a constraint that refuses everything is removed between the refusal and its examination.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_refused_before_a_good_one_was_accepted_is_not_at_fault() {
    let db = Db::postgres().await;
    db.prepare().await;
    db.execute(REFUSING_ONCE).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    bench.accept(3).await;
    bench.start(&db.options());
    bench.drained().await;
    bench.stop().await;
    db.assert_holds_exactly(3).await;
    assert_eq!(db.dead_letters().await, 0);
    let seen = db.number("SELECT last_value FROM rows_seen").await;
    assert!(seen > 3, "one was refused: {seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_decoded_again_is_kept_whole_with_its_reason() {
    for db in [Db::postgres().await, Db::sqlite()] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut bench = Bench::new(dir.path());
        bench.accept(2).await;
        let garbage = "this is not what was accepted";
        bench
            .journal
            .append(record(5, garbage))
            .await
            .expect("taken");
        let fewer = format!("[{}]", json(9, "orders"));
        bench
            .journal
            .append(record(3, &fewer))
            .await
            .expect("taken");
        bench.accept(2).await;
        bench.start(&db.options());
        bench.drained().await;
        bench.stop().await;
        db.assert_holds_exactly(4).await;
        assert_eq!(db.dead_letters().await, 2);
        for (reason, position, events, length) in [
            ("undecodable", 2, 5, garbage.len()),
            ("miscounted", 3, 3, fewer.len()),
        ] {
            let found = format!(
                "SELECT count(*) FROM telemetry_dead_letters WHERE reason = '{reason}' AND position = {position}
                 AND item IS NULL AND events = {events} AND kind = 'event/json' AND length(payload) = {length}"
            );
            assert_eq!(db.number(&found).await, 1, "{reason}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_record_is_one_dead_letter_and_what_follows_is_stored() {
    let db = Db::sqlite();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench::new(dir.path());
    for _ in 0..5 {
        bench.accept(2).await;
    }
    bench.journal.close().await;
    drop(bench);
    // The second record holds e3 and e4.
    let mut found = 0;
    for file in std::fs::read_dir(dir.path()).expect("the directory lists") {
        let path = file.expect("an entry").path();
        let Ok(mut bytes) = std::fs::read(&path) else {
            continue;
        };
        let hit = bytes.windows(4).position(|window| window == b"\"e3\"");
        if let Some(at) = hit {
            bytes[at + 1] ^= 1;
            std::fs::write(&path, bytes).expect("written back");
            found += 1;
        }
    }
    assert_eq!(found, 1);
    let mut bench = Bench::new(dir.path()).after(10);
    bench.start(&db.options());
    bench.drained().await;
    let last = bench.accept(1).await;
    bench.progress.stored(last).await;
    bench.stop().await;
    assert_eq!(db.number("SELECT count(*) FROM telemetry_events").await, 9);
    let letters = "SELECT count(*) FROM telemetry_dead_letters WHERE reason = 'damaged' AND position = 2 AND events = 2";
    assert_eq!((db.number(letters).await, db.dead_letters().await), (1, 1));
}
