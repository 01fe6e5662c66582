//! Protobuf messages as data, written as protobuf and as OTLP's JSON.
//!
//! **Invariant:** nothing here depends on OTLP's messages: a field that no schema has can be written like any other,
//! and both encodings have the same content.

use serde_json::{Map, Value as Json, json};

/// A message: its fields in the order they were added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<Field>);

#[derive(Clone, Debug)]
struct Field {
    number: u32,
    /// In lowerCamelCase.
    name: &'static str,
    value: Value,
}

/// A field's value. Lists of numbers are packed (proto3's default).
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// An enum, or a 32-bit number.
    Varint(u32),
    Sint32(i32),
    Bool(bool),
    Int64(i64),
    /// `sfixed64`.
    Int64Fixed(i64),
    Fixed32(u32),
    Fixed64(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Bytes which OTLP's JSON writes in hex.
    Id(Vec<u8>),
    Message(Message),
    Messages(Vec<Message>),
    Uint64s(Vec<u64>),
    Fixed64s(Vec<u64>),
    Doubles(Vec<f64>),
}

impl Message {
    /// Returns the message with that field after its present ones.
    #[must_use]
    pub(crate) fn with(mut self, number: u32, name: &'static str, value: Value) -> Self {
        self.0.push(Field {
            number,
            name,
            value,
        });
        self
    }

    #[must_use]
    pub(crate) fn text(self, number: u32, name: &'static str, text: impl Into<String>) -> Self {
        self.with(number, name, Value::Text(text.into()))
    }

    #[must_use]
    pub(crate) fn one(self, number: u32, name: &'static str, message: Self) -> Self {
        self.with(number, name, Value::Message(message))
    }

    #[must_use]
    pub(crate) fn many(self, number: u32, name: &'static str, messages: Vec<Self>) -> Self {
        self.with(number, name, Value::Messages(messages))
    }

    /// Returns the message with another value in a field that it has.
    #[must_use]
    pub(crate) fn but(mut self, name: &str, value: Value) -> Self {
        let field = self.0.iter_mut().find(|field| field.name == name);
        field.expect("a field of that name").value = value;
        self
    }

    #[must_use]
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|field| field.name != name);
        self
    }

    /// Returns the message with the additions of `add`, in it and in all messages within it.
    #[must_use]
    pub(crate) fn everywhere(self, add: fn(Self) -> Self) -> Self {
        let fields = self.0.into_iter().map(|mut field| {
            field.value = match field.value {
                Value::Message(message) => Value::Message(message.everywhere(add)),
                Value::Messages(messages) => Value::Messages(
                    messages
                        .into_iter()
                        .map(|message| message.everywhere(add))
                        .collect(),
                ),
                value => value,
            };
            field
        });
        add(Self(fields.collect()))
    }

    /// As protobuf.
    pub(crate) fn protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for field in &self.0 {
            field.value.write(field.number, &mut out);
        }
        out
    }

    /// As OTLP's JSON: ids in hex, 64-bit integers as strings.
    pub(crate) fn json(&self) -> Json {
        let mut object = Map::new();
        for field in &self.0 {
            object.insert(field.name.to_owned(), field.value.json());
        }
        Json::Object(object)
    }
}

impl Value {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        match self {
            Self::Varint(value) => varint_field(number, u64::from(*value), out),
            Self::Sint32(value) => varint_field(number, zigzag(*value), out),
            Self::Bool(value) => varint_field(number, u64::from(*value), out),
            Self::Int64(value) => varint_field(number, value.cast_unsigned(), out),
            Self::Int64Fixed(value) => {
                key(number, 1, out);
                out.extend(value.to_le_bytes());
            }
            Self::Fixed32(value) => {
                key(number, 5, out);
                out.extend(value.to_le_bytes());
            }
            Self::Fixed64(value) => {
                key(number, 1, out);
                out.extend(value.to_le_bytes());
            }
            Self::Double(value) => {
                key(number, 1, out);
                out.extend(value.to_le_bytes());
            }
            Self::Text(text) => bytes_field(number, text.as_bytes(), out),
            Self::Bytes(bytes) | Self::Id(bytes) => bytes_field(number, bytes, out),
            Self::Message(message) => bytes_field(number, &message.protobuf(), out),
            Self::Messages(messages) => {
                for message in messages {
                    bytes_field(number, &message.protobuf(), out);
                }
            }
            Self::Uint64s(values) => {
                let mut packed = Vec::new();
                for value in values {
                    varint(*value, &mut packed);
                }
                bytes_field(number, &packed, out);
            }
            Self::Fixed64s(values) => {
                let packed: Vec<u8> = values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                bytes_field(number, &packed, out);
            }
            Self::Doubles(values) => {
                let packed: Vec<u8> = values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                bytes_field(number, &packed, out);
            }
        }
    }

    fn json(&self) -> Json {
        match self {
            Self::Varint(value) | Self::Fixed32(value) => json!(value),
            Self::Sint32(value) => json!(value),
            Self::Bool(value) => json!(value),
            Self::Int64(value) | Self::Int64Fixed(value) => json!(value.to_string()),
            Self::Fixed64(value) => json!(value.to_string()),
            Self::Double(value) => double(*value),
            Self::Text(text) => json!(text),
            Self::Bytes(bytes) => json!(base64(bytes)),
            Self::Id(bytes) => json!(hex(bytes)),
            Self::Message(message) => message.json(),
            Self::Messages(messages) => messages.iter().map(Message::json).collect(),
            Self::Uint64s(values) | Self::Fixed64s(values) => values
                .iter()
                .map(|value| json!(value.to_string()))
                .collect(),
            Self::Doubles(values) => values.iter().copied().map(double).collect(),
        }
    }
}

/// In lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// Standard, padded.
pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn double(value: f64) -> Json {
    match value {
        _ if value.is_finite() => json!(value),
        _ if value.is_nan() => json!("NaN"),
        _ if value > 0.0 => json!("Infinity"),
        _ => json!("-Infinity"),
    }
}

fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)).cast_unsigned())
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

fn key(number: u32, wire_type: u64, out: &mut Vec<u8>) {
    varint((u64::from(number) << 3) | wire_type, out);
}

fn varint_field(number: u32, value: u64, out: &mut Vec<u8>) {
    key(number, 0, out);
    varint(value, out);
}

fn bytes_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    key(number, 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
