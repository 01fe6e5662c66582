//! The resource and the instrumentation scope of items, which are stored once and referred to by an id.
//!
//! The id is the first 16 bytes of SHA-256 over the byte 1 and `{"resource": …, "scope": …}`: the resource and the
//! scope in their stored form, but with all keys sorted bytewise. Every collector derives the same id.
//!
//! **Invariant:** equal resources and scopes have equal ids, whatever the order of their attributes on the wire.

use crate::text;
use std::borrow::Cow;
use std::str::Utf8Error;

use sha2::{Digest as _, Sha256};

use crate::decode::event_metadata::{EventMetadata, HELD_BYTES};
use crate::decode::json::json_text::{JsonText, hash_json, json_string};
use crate::decode::json::json_writer::{self, array_member, number_member, text_member};
use crate::decode::otlp::any_value::{
    self, ValueStyle, attributes_member, repeated, text, without_nul,
};
use crate::decode::otlp::key_layout::KeyOrder;
use crate::decode::otlp::schema::{self, MessageSchema};
use crate::decode::otlp::validate::{Invalid, ValidItem, repair};
use crate::decode::plain_text::is_plain;
use crate::decode::protobuf::{FieldValue, Malformed, ProtobufReader};
use crate::event::{Resource, ResourceId, Sanitized, Source};

/// The resource's attributes that fill the column `integration`, and `provider` for items without a provider of their
/// own, with the columns' limits in characters.
const COLUMNS: [(&str, usize); 2] = [("service.name", 100), ("cloud.provider", 100)];

/// A resource or a scope in protobuf, as it is sent or converted from JSON, and the schema URL beside it.
#[derive(Debug, Default)]
pub(in crate::decode) struct SentPart<'a> {
    pub(in crate::decode) message: Cow<'a, [u8]>,
    pub(in crate::decode) schema_url: Cow<'a, [u8]>,
    /// Number of texts that were repaired in its JSON.
    pub(in crate::decode) repaired_texts: u32,
}

/// A resource or a scope in protobuf, validated, with its schema URL.
#[derive(Debug)]
pub(in crate::decode) struct EncodedPart<'a> {
    message: Cow<'a, [u8]>,
    schema_url: Cow<'a, [u8]>,
    /// Number of changes to it, by reason.
    pub(in crate::decode) repairs: Sanitized,
    /// Its message was changed.
    pub(in crate::decode) is_changed: bool,
    /// Number of bytes by which its stored form exceeds the message, as for [`ValidItem::expansion_bytes`].
    expansion_bytes: usize,
    /// The reason why none of its items can be accepted.
    pub(in crate::decode) fault: Option<Invalid>,
}

impl<'a> EncodedPart<'a> {
    pub(in crate::decode) fn resource(
        part: SentPart<'a>,
        source: &Source,
    ) -> Result<Self, Malformed> {
        let mut resource = Self::new(part, &schema::RESOURCE, source)?;
        if source.flags_cut_columns() {
            resource.repairs.cut = cut_columns(&resource.message);
        }
        Ok(resource)
    }

    pub(in crate::decode) fn scope(part: SentPart<'a>, source: &Source) -> Result<Self, Malformed> {
        Self::new(part, &schema::SCOPE, source)
    }

    fn new(
        part: SentPart<'a>,
        schema: &'static MessageSchema,
        source: &Source,
    ) -> Result<Self, Malformed> {
        let SentPart {
            message,
            mut schema_url,
            repaired_texts,
        } = part;
        let mut repaired = None;
        let (mut seen, expansion_bytes, fault) = match ValidItem::of(&message, schema, source) {
            Ok(valid) => {
                if let Cow::Owned(copy) = valid.item {
                    repaired = Some(copy);
                }
                (valid.repairs, valid.expansion_bytes, None)
            }
            Err(Invalid::Malformed(malformed)) => return Err(malformed),
            Err(fault) => (Sanitized::default(), 0, Some(fault)),
        };
        // The limits of attributes do not cut it: it is stored once and whole.
        seen.cut = 0;
        seen.utf8 = seen.utf8.saturating_add(repaired_texts);
        seen.nul += u32::from(schema_url.contains(&0));
        if std::str::from_utf8(&schema_url).is_err() {
            seen.utf8 += 1;
            repair(schema_url.to_mut());
        }
        Ok(Self {
            is_changed: repaired.is_some(),
            message: repaired.map_or(message, Cow::Owned),
            schema_url,
            repairs: seen,
            expansion_bytes,
            fault,
        })
    }

    /// Returns the approximate number of bytes of its stored form.
    pub(in crate::decode) fn len(&self) -> usize {
        self.message.len() + self.schema_url.len() + self.expansion_bytes
    }
}

/// A resource is stored whole.
const STORED: ValueStyle = ValueStyle {
    order: KeyOrder::Jsonb,
    attributes: 0,
    value_bytes: 0,
};

/// The id of a stored resource and scope, and the columns that rows have from the resource.
#[derive(Debug)]
pub(in crate::decode) struct StoredResource {
    pub(in crate::decode) id: ResourceId,
    /// The attribute `service.name`, cut to the column; `unknown_service` if there is none.
    pub(in crate::decode) integration: String,
    /// The attribute `cloud.provider`, cut to the column.
    pub(in crate::decode) provider: Option<String>,
}

impl StoredResource {
    pub(in crate::decode) fn of(resource: &EncodedPart<'_>, scope: &EncodedPart<'_>) -> Self {
        let hashed = ValueStyle {
            order: KeyOrder::Bytewise,
            ..STORED
        };
        let mut digest = Sha256::new().chain_update([1]);
        hash_json(&mut digest, &mut Vec::new(), |out| {
            out.push('{');
            json_writer::key(out, "resource");
            write_resource(out, resource, &hashed);
            json_writer::key(out, "scope");
            write_scope(out, scope, &hashed);
            out.push('}');
        });
        let mut id = [0; 16];
        id.copy_from_slice(&digest.finalize()[..16]);

        let [integration, provider] = COLUMNS.map(|(key, limit)| {
            let name = named_attribute(&resource.message, key)?;
            Some(text::cut_to(name, limit).into_owned())
        });
        Self {
            id: ResourceId(id),
            integration: integration.unwrap_or_else(|| "unknown_service".to_owned()),
            provider,
        }
    }

    /// The texts that are stored under the id.
    pub(in crate::decode) fn texts(
        &self,
        resource: &EncodedPart<'_>,
        scope: &EncodedPart<'_>,
    ) -> Resource {
        Resource {
            id: self.id,
            resource: json_string(|out| write_resource(out, resource, &STORED)),
            scope: json_string(|out| write_scope(out, scope, &STORED)),
        }
    }
}

/// The length of the texts that are stored, or an estimate if that is small.
pub(in crate::decode) fn stored_bytes(
    resource: &EncodedPart<'_>,
    scope: &EncodedPart<'_>,
) -> usize {
    let about_bytes = resource.len() + scope.len();
    if about_bytes <= HELD_BYTES {
        return about_bytes;
    }
    let write = |out: &mut JsonText<'_>| {
        write_resource(out, resource, &STORED);
        write_scope(out, scope, &STORED);
    };
    EventMetadata::new(&write, about_bytes).bytes()
}

/// Returns the resource's attribute of that name; the last one given counts.
fn named_attribute<'a>(resource: &'a [u8], key: &str) -> Option<Cow<'a, str>> {
    let value = repeated(resource, 1)
        .filter(|pair| repeated(pair, 1).last() == Some(key.as_bytes()))
        .last()?;
    any_value::name_of(repeated(value, 2).last()?)
}

/// Counts the columns that hold only the beginning of a resource's attribute.
fn cut_columns(resource: &[u8]) -> u32 {
    let is_cut = |(key, limit): &(&str, usize)| {
        named_attribute(resource, key).is_some_and(|name| text::is_longer(&name, *limit))
    };
    let is_long = |pair: &[u8]| COLUMNS.iter().any(|(_, limit)| pair.len() > *limit);
    if !repeated(resource, 1).any(is_long) {
        return 0;
    }
    COLUMNS.iter().map(|column| u32::from(is_cut(column))).sum()
}

/// One member of an object: its key, and a function that writes the member under it unless its value is empty.
type JsonMember<'m> = (&'static str, &'m dyn Fn(&mut JsonText<'_>, &str));

fn write_members(out: &mut JsonText<'_>, style: &ValueStyle, members: &mut [JsonMember<'_>]) {
    members.sort_by(|a, b| style.order.compare(a.0.as_bytes(), b.0.as_bytes()));
    out.push('{');
    for (key, write) in members {
        write(out, key);
    }
    out.push('}');
}

fn write_resource(out: &mut JsonText<'_>, part: &EncodedPart<'_>, style: &ValueStyle) {
    let (message, schema_url) = (&part.message[..], &part.schema_url[..]);
    let entities = |out: &mut JsonText<'_>, key: &str| {
        array_member(out, key, repeated(message, 3), |out, entity| {
            write_entity(out, entity, style);
        });
    };
    let mut members: [JsonMember<'_>; 4] = [
        ("attributes", &|out, _| {
            attributes_member(out, message, 1, style);
        }),
        ("droppedAttributesCount", &|out, key| {
            number_member(out, key, number(message, 2));
        }),
        ("entityRefs", &entities),
        ("schemaUrl", &|out, key| text_member(out, key, schema_url)),
    ];
    write_members(out, style, &mut members);
}

fn write_scope(out: &mut JsonText<'_>, part: &EncodedPart<'_>, style: &ValueStyle) {
    let (message, schema_url) = (&part.message[..], &part.schema_url[..]);
    let mut members: [JsonMember<'_>; 5] = [
        ("name", &|out, key| {
            text_member(out, key, last_text(message, 1).as_bytes());
        }),
        ("version", &|out, key| {
            text_member(out, key, last_text(message, 2).as_bytes());
        }),
        ("attributes", &|out, _| {
            attributes_member(out, message, 3, style);
        }),
        ("droppedAttributesCount", &|out, key| {
            number_member(out, key, number(message, 4));
        }),
        ("schemaUrl", &|out, key| text_member(out, key, schema_url)),
    ];
    write_members(out, style, &mut members);
}

fn write_entity(out: &mut JsonText<'_>, entity: &[u8], style: &ValueStyle) {
    let texts = |out: &mut JsonText<'_>, key: &str, number| {
        array_member(out, key, repeated(entity, number), |out, item| {
            json_writer::text(out, item);
        });
    };
    let mut members: [JsonMember<'_>; 4] = [
        ("schemaUrl", &|out, key| {
            text_member(out, key, last_text(entity, 1).as_bytes());
        }),
        ("type", &|out, key| {
            text_member(out, key, last_text(entity, 2).as_bytes());
        }),
        ("idKeys", &|out, key| texts(out, key, 3)),
        ("descriptionKeys", &|out, key| texts(out, key, 4)),
    ];
    write_members(out, style, &mut members);
}

/// Returns a text field; the last one given counts.
pub(in crate::decode) fn last_text(message: &[u8], number: u32) -> &str {
    repeated(message, number).last().map_or("", text)
}

/// Returns a 32-bit number field; the last one given counts.
fn number(message: &[u8], number: u32) -> u64 {
    let mut reader = ProtobufReader::new(message);
    let mut last = 0;
    while let Ok(Some((found, value))) = reader.field() {
        if let (true, FieldValue::Varint(value)) = (found == number, value) {
            last = value & u64::from(u32::MAX);
        }
    }
    last
}

/// Returns a text as a column stores it: each NUL replaced, cut to `characters`.
///
/// # Errors
/// [`Utf8Error`] if it is not UTF-8.
pub(in crate::decode) fn column_text(
    bytes: &[u8],
    characters: usize,
) -> Result<Cow<'_, str>, Utf8Error> {
    let text = std::str::from_utf8(bytes)?;
    if is_plain(bytes) {
        return Ok(text::cut_to(Cow::Borrowed(text), characters));
    }
    Ok(text::cut_to(without_nul(text), characters))
}
