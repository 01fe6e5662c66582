//! A test's ledger of the events that it sent, for comparison with the stored events.
//!
//! **Invariant:** every event is identified by (client, number), and all its content is computed from those two, so
//! that any stored row can be judged.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

/// The outcome of one attempt to send an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The service has promised to keep it.
    Acked,
    /// The service has promised that it will never be stored.
    RefusedFinal,
    /// Not stored; may be sent again.
    Retryable,
    /// May or may not be stored.
    Unknown,
}

/// All attempts of one event.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    acked: bool,
    refused: bool,
    unknown: u32,
}

/// The events that were sent, by client and number.
#[derive(Debug, Default)]
pub struct Ledger {
    clients: Mutex<Vec<Vec<Entry>>>,
}

/// The numbers of a ledger's events by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub acked: u64,
    pub refused: u64,
    /// Sent, and neither acknowledged nor refused.
    pub open: u64,
}

impl Ledger {
    /// A number for one more client.
    pub fn client(&self) -> usize {
        let mut clients = self.clients.lock().expect("no holder panics");
        clients.push(Vec::new());
        clients.len() - 1
    }

    /// The next `count` events of a client, which are about to be sent.
    pub fn next(&self, client: usize, count: usize) -> Range<usize> {
        let mut clients = self.clients.lock().expect("no holder panics");
        let events = &mut clients[client];
        let first = events.len();
        events.resize(first + count, Entry::default());
        first..first + count
    }

    /// Notes the outcome of an attempt to send these.
    pub fn note(&self, client: usize, events: Range<usize>, outcome: Outcome) {
        let mut clients = self.clients.lock().expect("no holder panics");
        for entry in &mut clients[client][events] {
            match outcome {
                Outcome::Acked => entry.acked = true,
                Outcome::RefusedFinal => entry.refused = true,
                Outcome::Unknown => entry.unknown += 1,
                Outcome::Retryable => {}
            }
        }
    }

    pub fn totals(&self) -> Totals {
        let clients = self.clients.lock().expect("no holder panics");
        let mut totals = Totals::default();
        for entry in clients.iter().flatten() {
            match entry {
                Entry { acked: true, .. } => totals.acked += 1,
                Entry { refused: true, .. } => totals.refused += 1,
                Entry { .. } => totals.open += 1,
            }
        }
        totals
    }

    /// Compares the ledger with the rows of a PostgreSQL database.
    pub async fn assert_stored_in_postgres(&self, url: &str) {
        let mut database = PgConnection::connect(url)
            .await
            .expect("PostgreSQL answers");
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT correlation_id, event_type, metadata::text FROM telemetry_events",
        )
        .fetch_all(&mut database)
        .await
        .expect("the table can be read");
        let dead: i64 = sqlx::query_scalar("SELECT count(*) FROM telemetry_dead_letters")
            .fetch_one(&mut database)
            .await
            .expect("the table can be read");
        self.assert_stored(&rows, dead);
    }

    /// Compares the ledger with the rows of an SQLite file.
    pub async fn assert_stored_in_sqlite(&self, file: &Path) {
        let mut database = SqliteConnectOptions::new()
            .filename(file)
            .connect()
            .await
            .expect("the file can be opened");
        let rows: Vec<(String, String, String)> =
            sqlx::query_as("SELECT correlation_id, event_type, metadata FROM telemetry_events")
                .fetch_all(&mut database)
                .await
                .expect("the table can be read");
        let dead: i64 = sqlx::query_scalar("SELECT count(*) FROM telemetry_dead_letters")
            .fetch_one(&mut database)
            .await
            .expect("the table can be read");
        self.assert_stored(&rows, dead);
    }

    fn assert_stored(&self, rows: &[(String, String, String)], dead: i64) {
        let mut violations = self.violations(rows);
        if dead != 0 {
            violations.push(format!("{dead} dead letters, and every event was sound"));
        }
        let shown = violations.len().min(20);
        assert!(
            violations.is_empty(),
            "{} violations, {:?}, {} rows:\n{}",
            violations.len(),
            self.totals(),
            rows.len(),
            violations[..shown].join("\n")
        );
    }

    /// The faults of these rows of (correlation id, event type, metadata), a sentence each. An acknowledged event must
    /// be there exactly once, a refused one nowhere, no event more often than its attempts allow, each with the content
    /// that was sent, and no other event.
    fn violations(&self, rows: &[(String, String, String)]) -> Vec<String> {
        let clients = self.clients.lock().expect("no holder panics");
        let mut copies: HashMap<(usize, usize), u32> = HashMap::new();
        let mut violations = Vec::new();
        for (id, event_type, metadata) in rows {
            let Some((client, number)) = parse_id(id).filter(|&(client, number)| {
                clients
                    .get(client)
                    .is_some_and(|events| number < events.len())
            }) else {
                violations.push(format!("{id} was never sent"));
                continue;
            };
            *copies.entry((client, number)).or_default() += 1;
            let stored = stored_payload(event_type, metadata);
            if stored.as_ref() != Some(&payload(client, number)) {
                violations.push(format!("{id} is stored with another payload: {metadata}"));
            }
        }
        for (client, events) in clients.iter().enumerate() {
            for (number, entry) in events.iter().enumerate() {
                let copies = copies.get(&(client, number)).copied().unwrap_or(0);
                violations.extend(entry.judge(copies).map(|what| {
                    let id = correlation_id(client, number);
                    format!("{id} {what}: {copies} copies, {entry:?}")
                }));
            }
        }
        violations
    }
}

impl Entry {
    fn judge(self, copies: u32) -> Option<&'static str> {
        if self.acked && copies == 0 {
            Some("was acknowledged and is lost")
        } else if self.refused && !self.acked && copies > self.unknown {
            Some("was refused and is stored")
        } else if copies > self.unknown + u32::from(self.acked) {
            Some("is stored more often than it can have been sent")
        } else {
            None
        }
    }
}

pub fn correlation_id(client: usize, number: usize) -> String {
    format!("ledger-{client}-{number}")
}

fn parse_id(id: &str) -> Option<(usize, usize)> {
    let (client, number) = id.strip_prefix("ledger-")?.split_once('-')?;
    Some((client.parse().ok()?, number.parse().ok()?))
}

/// The content of an event, flat; the texts need escaping and have characters of more than one byte.
pub fn payload(client: usize, number: usize) -> Value {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in correlation_id(client, number).bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let filler = "Grüße \"\\\n\u{1F980} ".repeat(number % 7);
    json!({ "check": format!("{hash:016x}"), "filler": filler, "number": number })
}

/// The payload as it was sent, from the stored row.
fn stored_payload(event_type: &str, metadata: &str) -> Option<Value> {
    let mut metadata: Value = serde_json::from_str(metadata).ok()?;
    if event_type != "span" {
        return Some(metadata);
    }
    let mut attributes = metadata.get_mut("attributes")?.take();
    attributes.as_object_mut()?.remove("correlation.id");
    Some(attributes)
}

#[test]
fn the_ledger_sees_what_is_lost_doubled_forged_or_changed() {
    let row = |client, number| {
        (
            correlation_id(client, number),
            "order".to_owned(),
            payload(client, number).to_string(),
        )
    };
    let ledger = Ledger::default();
    let client = ledger.client();
    ledger.next(client, 4);
    ledger.note(client, 0..1, Outcome::Acked);
    ledger.note(client, 1..2, Outcome::RefusedFinal);
    ledger.note(client, 2..3, Outcome::Unknown);
    ledger.note(client, 3..4, Outcome::Retryable);

    assert!(ledger.violations(&[row(0, 0)]).is_empty());
    assert!(ledger.violations(&[row(0, 0), row(0, 2)]).is_empty());
    for (wrong, rows) in [
        ("is lost", vec![]),
        ("more often", vec![row(0, 0), row(0, 0)]),
        ("refused and is stored", vec![row(0, 0), row(0, 1)]),
        ("more often", vec![row(0, 0), row(0, 2), row(0, 2)]),
        ("more often", vec![row(0, 0), row(0, 3)]),
        ("never sent", vec![row(0, 0), row(0, 4)]),
        ("never sent", vec![row(0, 0), row(7, 0)]),
        (
            "another payload",
            vec![(correlation_id(0, 0), "order".to_owned(), "{}".to_owned())],
        ),
    ] {
        let violations = ledger.violations(&rows);
        assert_eq!(violations.len(), 1, "{wrong}: {violations:?}");
        assert!(violations[0].contains(wrong), "{wrong}: {violations:?}");
    }
}
