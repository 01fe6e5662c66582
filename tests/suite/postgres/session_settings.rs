//! The settings of the service's transactions, under a database whose own are adverse.

use ruvvector_service::store::Store;
use ruvvector_service::store::row_encoding::EncodedRows;

use super::{batch, begun, event, execute, now_unix_nano, number, options, prepared, rows};

/// Settings that a server, a database or a role may have, and the value of each within our transactions.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("synchronous_commit", "off", "on"),
    ("statement_timeout", "5000", "60000"),
    ("idle_in_transaction_session_timeout", "50000", "60000"),
    ("lock_timeout", "4000", "5000"),
    ("standard_conforming_strings", "off", "on"),
    (
        "default_transaction_isolation",
        "serializable",
        "serializable",
    ),
    ("transaction_isolation", "", "read committed"),
    ("client_encoding", "LATIN1", "UTF8"),
    ("TimeZone", "'Asia/Kathmandu'", "UTC"),
    ("DateStyle", "'SQL, DMY'", "ISO, YMD"),
    ("IntervalStyle", "sql_standard", "postgres"),
    ("bytea_output", "escape", "hex"),
    ("quote_all_identifiers", "on", "off"),
    ("array_nulls", "off", "on"),
    ("enable_seqscan", "off", "on"),
    ("jit", "on", "off"),
];

/// With `standard_conforming_strings = off` no partition was made any more, and above READ COMMITTED batches
/// conflicted. Today's SQL depends on few of these settings; later SQL can rely on the stated values.
#[tokio::test]
async fn the_transaction_has_its_own_settings_whatever_the_databases_are() {
    let (database, _) = prepared().await;
    let mut sql = database.connect().await;
    let name = database.options().get_database().unwrap().to_owned();
    for (setting, theirs, _) in SETTINGS.iter().filter(|(_, theirs, _)| !theirs.is_empty()) {
        let set = format!("ALTER DATABASE {name} SET {setting} = {theirs}");
        execute(&mut sql, &set).await;
    }
    execute(
        &mut sql,
        "CREATE TABLE settings (name text, value text); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
             INSERT INTO settings SELECT name, setting FROM pg_settings; RETURN NEW; END'; \
         CREATE TRIGGER note AFTER UPDATE ON ingest_streams FOR EACH ROW EXECUTE FUNCTION note()",
    )
    .await;
    let store = Store::new(&options(database.options()));
    store.prepare().await.unwrap();
    let stream = begun(&store).await;
    store.write(&batch(stream, 1..=1, rows(10))).await.unwrap();
    for (name, _, ours) in SETTINGS {
        let found: String = sqlx::query_scalar("SELECT value FROM settings WHERE name = $1")
            .bind(name)
            .fetch_one(&mut sql)
            .await
            .unwrap();
        assert_eq!(&found, ours, "{name}");
    }
    // A large record cannot be made smaller, so it gets more time.
    let mut large = EncodedRows::default();
    let metadata = format!(r#"{{"text": "{}"}}"#, "x".repeat(1 << 20));
    for _ in 0..33 {
        let mut event = event("large");
        event.metadata = metadata.as_str().into();
        large.push(&event, now_unix_nano());
    }
    store.write(&batch(stream, 2..=2, large)).await.unwrap();
    let longest = "SELECT max(value::bigint) FROM settings WHERE name = 'statement_timeout'";
    assert_eq!(number(&mut sql, longest).await, 3 * 60_000);
}
