//! All that decode accepts is stored and reads back equal.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ruvvector_service::event::{Event, EventFlags, ResourceId};
use ruvvector_service::store::row_encoding::EncodedRows;
use serde_json::value::RawValue;
use sqlx::{FromRow, Row};

use super::{batch, begun, now_unix_nano, prepared};

/// Small, fast and repeatable (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).expect("small")).expect("small")
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.one_in(3) {
            None
        } else {
            Some(value(self))
        }
    }

    /// Any Unicode character except NUL; often a difficult one.
    fn text(&mut self, longest: usize) -> String {
        let length = if self.one_in(20) {
            longest
        } else {
            self.below(longest.min(24))
        };
        (0..length).map(|_| self.character()).collect()
    }

    fn character(&mut self) -> char {
        const TROUBLE: [char; 12] = [
            '"',
            '\\',
            '\'',
            '\u{1}',
            '\u{1f}',
            '\u{7f}',
            '\u{ffff}',
            '\u{10ffff}',
            '\u{fffd}',
            '\u{2028}',
            '\n',
            '$',
        ];
        loop {
            let code = match self.below(4) {
                0 => return TROUBLE[self.below(TROUBLE.len())],
                1 => self.below(0x11_0000),
                _ => 0x20 + self.below(0x5f),
            };
            match u32::try_from(code).ok().and_then(char::from_u32) {
                None | Some('\0') => {}
                Some(character) => return character,
            }
        }
    }

    fn extreme(&mut self) -> i64 {
        match self.below(6) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => -1,
            3 => 0,
            _ => self.next().cast_signed() >> self.below(64),
        }
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b'0' + u8::try_from(self.below(10)).expect("small")))
            .collect()
    }

    /// A number as the normaliser leaves it: plain digits, no exponent, no `-0`, at most 400 characters.
    fn number(&mut self) -> String {
        let longest = if self.one_in(10) { 198 } else { 12 };
        let whole = match self.below(longest) {
            0 => "0".to_owned(),
            count => format!("{}{}", 1 + self.below(9), self.digits(count - 1)),
        };
        let fraction = match self.below(3) {
            0 => format!(".{}", {
                let count = 1 + self.below(longest);
                self.digits(count)
            }),
            _ => String::new(),
        };
        let is_zero = whole
            .bytes()
            .chain(fraction.bytes())
            .all(|byte| matches!(byte, b'0' | b'.'));
        let sign = if !is_zero && self.one_in(2) { "-" } else { "" };
        format!("{sign}{whole}{fraction}")
    }

    fn json(&mut self, depth: usize) -> Json {
        match self.below(if depth == 0 { 4 } else { 7 }) {
            0 => Json::Word(["null", "true", "false"][self.below(3)]),
            1 => Json::Number(self.number()),
            2 | 3 => Json::Text(self.text(300)),
            4 => Json::Array((0..self.below(4)).map(|_| self.json(depth - 1)).collect()),
            _ => self.object(depth),
        }
    }

    fn object(&mut self, depth: usize) -> Json {
        let members = self.below(5);
        Json::Object(
            (0..members)
                .map(|_| (self.text(40), self.json(depth - 1)))
                .collect(),
        )
    }

    /// One value at the greatest depth that native JSON may have.
    fn deep(&mut self) -> Json {
        (0..31).fold(self.json(0), |inner, _| {
            if self.one_in(2) {
                Json::Array(vec![inner])
            } else {
                Json::Object(BTreeMap::from([(self.text(10), inner)]))
            }
        })
    }
}

/// JSON with numbers in their original spelling.
#[derive(Debug, PartialEq)]
enum Json {
    Word(&'static str),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    fn write(&self, out: &mut String) {
        let string = |text: &str| serde_json::to_string(text).expect("a string");
        match self {
            Self::Word(word) => out.push_str(word),
            Self::Number(number) => out.push_str(number),
            Self::Text(text) => out.push_str(&string(text)),
            Self::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&string(key));
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    fn read(text: &str) -> Self {
        let items = || serde_json::from_str::<Vec<&RawValue>>(text).expect("JSONB prints JSON");
        let members = || {
            serde_json::from_str::<BTreeMap<String, &RawValue>>(text).expect("JSONB prints JSON")
        };
        match text.as_bytes()[0] {
            b'n' => Self::Word("null"),
            b't' => Self::Word("true"),
            b'f' => Self::Word("false"),
            b'"' => Self::Text(serde_json::from_str(text).expect("JSONB prints JSON")),
            b'[' => Self::Array(
                items()
                    .into_iter()
                    .map(|item| Self::read(item.get()))
                    .collect(),
            ),
            b'{' => Self::Object(
                members()
                    .into_iter()
                    .map(|(key, value)| (key, Self::read(value.get())))
                    .collect(),
            ),
            _ => Self::Number(text.to_owned()),
        }
    }
}

fn random_event(random: &mut Random) -> (Event<'static>, Json) {
    let metadata = if random.one_in(50) {
        Json::Object(BTreeMap::from([("deep".to_owned(), random.deep())]))
    } else {
        random.object(4)
    };
    let mut text = String::new();
    metadata.write(&mut text);
    let event = Event {
        correlation_id: random.text(255).into(),
        integration: random.text(100).into(),
        provider: random.option(|r| r.text(100).into()),
        event_type: random.text(50).into(),
        timestamp_ms: random.extreme().max(0),
        metadata: text.into(),
        trace_id: random.option(|r| r.text(64).into()),
        span_id: random.option(|r| r.text(32).into()),
        parent_span_id: random.option(|r| r.text(32).into()),
        name: random.option(|r| r.text(255).into()),
        time_unix_nano: random.option(Random::extreme),
        duration_ns: random.option(Random::extreme),
        kind: random.option(|r| [i32::MIN, i32::MAX, -1, 0, 5][r.below(5)]),
        status: random.option(|r| r.text(20).into()),
        resource_id: random
            .option(|r| ResourceId([u8::try_from(r.below(256)).expect("small"); 16])),
        flags: EventFlags([0, 1, 31, i16::MAX, i16::MIN][random.below(5)]),
    };
    (event, metadata)
}

/// A row as it is in the table.
struct Stored {
    event: Event<'static>,
    metadata: Json,
    received_us: i64,
}

impl<'r> FromRow<'r, sqlx::postgres::PgRow> for Stored {
    fn from_row(row: &'r sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        let optional = |name: &str| -> Result<Option<Cow<'static, str>>, sqlx::Error> {
            Ok(row.try_get::<Option<String>, _>(name)?.map(Cow::Owned))
        };
        let metadata: String = row.try_get("metadata")?;
        let resource_id: Option<Vec<u8>> = row.try_get("resource_id")?;
        Ok(Self {
            metadata: Json::read(&metadata),
            received_us: row.try_get("received_us")?,
            event: Event {
                correlation_id: row.try_get::<String, _>("correlation_id")?.into(),
                integration: row.try_get::<String, _>("integration")?.into(),
                provider: optional("provider")?,
                event_type: row.try_get::<String, _>("event_type")?.into(),
                timestamp_ms: row.try_get("timestamp")?,
                metadata: "".into(),
                trace_id: optional("trace_id")?,
                span_id: optional("span_id")?,
                parent_span_id: optional("parent_span_id")?,
                name: optional("name")?,
                time_unix_nano: row.try_get("time_unix_nano")?,
                duration_ns: row.try_get("duration_ns")?,
                kind: row.try_get("kind")?,
                status: optional("status")?,
                resource_id: resource_id.map(|id| ResourceId(id.try_into().expect("16 bytes"))),
                flags: EventFlags(row.try_get::<Option<i16>, _>("flags")?.unwrap_or(0)),
            },
        })
    }
}

#[tokio::test]
async fn what_decode_admits_is_stored_and_reads_back_equal() {
    let number = std::env::var("RUVVECTOR_TEST_EVENTS").map_or(20_000, |n| n.parse().unwrap());
    let seed = std::env::var("RUVVECTOR_TEST_SEED")
        .map_or(0x9e37_79b9_7f4a_7c15, |seed| seed.parse().unwrap());
    let mut random = Random(seed);
    let (database, store) = prepared().await;
    let stream = begun(&store).await;
    let received = now_unix_nano();
    let mut sent = Vec::new();
    let mut position = 0;
    while sent.len() < number {
        let mut rows = EncodedRows::default();
        for _ in 0..5_000.min(number - sent.len()) {
            let (event, metadata) = random_event(&mut random);
            rows.push(&event, received);
            sent.push((event, metadata));
        }
        position += 1;
        store
            .write(&batch(stream, position..=position, rows))
            .await
            .unwrap();
    }
    let stored: Vec<Stored> = sqlx::query_as(
        "SELECT timestamp, time_unix_nano, duration_ns, kind, flags, correlation_id, integration, provider, event_type, \
         trace_id, span_id, parent_span_id, name, status, resource_id, metadata::text, \
         (extract(epoch FROM created_at) * 1000000)::bigint AS received_us \
         FROM telemetry_events ORDER BY id",
    )
    .fetch_all(&mut database.connect().await)
    .await
    .unwrap();
    assert_eq!(stored.len(), sent.len());
    for (stored, (mut event, metadata)) in stored.into_iter().zip(sent) {
        event.metadata = "".into();
        assert_eq!(stored.event, event);
        assert_eq!(stored.metadata, metadata);
        assert_eq!(stored.received_us, received / 1000);
    }
}
