//! Walks the outer levels of an OTLP request in protobuf: request, resource and scope. A visitor receives each item's
//! bytes.
//!
//! The three signals share one shape. Field 1 of a request repeats a resource with its scopes (`resource = 1`,
//! `scope… = 2`, `schema_url = 3`); a scope's messages repeat the items (`scope = 1`, items `= 2`, `schema_url = 3`).
//! Before OTLP 0.15 the scopes were field 1000 (`instrumentation_library… = 1`, the rest alike); they are read if a
//! resource has none in field 2.
//!
//! **Invariant:** each level is read at most twice, and the walk copies nothing but the current resource and scope.

use std::borrow::Cow;

use crate::decode::otlp::json_to_protobuf::Unmapped;
use crate::decode::otlp::resource_scope::EncodedPart;
use crate::decode::protobuf::{FieldValue, Malformed, ProtobufReader};
use crate::decode::rules::Rules;
use crate::event::{Sanitized, Source};

/// Receives the resources, scopes and items of a walk, in the order of the request.
pub(in crate::decode) trait Visitor<'a> {
    /// A resource begins; the scopes that follow belong to it.
    fn resource(&mut self, resource: EncodedPart<'a>);
    /// A scope begins; the items that follow belong to it.
    fn scope(&mut self, scope: EncodedPart<'a>);
    /// Receives one item's message; `repaired` counts the texts that were repaired in its JSON.
    fn item(&mut self, item: &[u8], repaired: &Sanitized) -> Result<(), Malformed>;
    /// Rejects items that cannot be mapped.
    fn reject(&mut self, items: u32, unmapped: &Unmapped);
    /// Reports the unknown name of a member around the items.
    fn unknown(&mut self, name: &str);
}

const SCOPES: u32 = 2;
const INSTRUMENTATION_LIBRARIES: u32 = 1000;
const ITEMS: u32 = 2;

/// Walks a request.
///
/// # Errors
/// [`Malformed`] if the bytes are not an export request of the signal, or the visitor fails.
pub(in crate::decode) fn walk<'a>(
    request: &'a [u8],
    source: &'a Source,
    visitor: &mut impl Visitor<'a>,
) -> Result<(), Malformed> {
    let rules = source.rules();
    for_each(request, 1, |resource| {
        let envelope = OuterMessage::of(resource, rules)?;
        let scopes = envelope.scopes;
        visitor.resource(EncodedPart::resource(
            envelope.origin,
            envelope.schema_url,
            source,
        )?);
        for_each(resource, scopes, |scope| {
            let envelope = OuterMessage::of(scope, rules)?;
            visitor.scope(EncodedPart::scope(
                envelope.origin,
                envelope.schema_url,
                source,
            )?);
            for_each(scope, ITEMS, |item| {
                visitor.item(item, &Sanitized::default())
            })
        })
    })
}

/// The fields of an outer message without its list, before or after which they may arrive.
struct OuterMessage<'a> {
    /// The resource or scope; a copy if it arrived in pieces.
    origin: Cow<'a, [u8]>,
    schema_url: Cow<'a, [u8]>,
    /// Number of the field with a resource's scopes.
    scopes: u32,
}

impl<'a> OuterMessage<'a> {
    fn of(message: &'a [u8], rules: Rules) -> Result<Self, Malformed> {
        let mut envelope = Self {
            origin: Cow::Borrowed(&[]),
            schema_url: Cow::Borrowed(&[]),
            scopes: SCOPES,
        };
        let (mut has_scopes, mut libraries) = (false, None);
        let mut reader = ProtobufReader::new(message);
        while let Some((number, value)) = reader.field()? {
            match number {
                1 if rules.merges_pieces() && !envelope.origin.is_empty() => {
                    envelope.origin.to_mut().extend_from_slice(value.bytes()?);
                }
                1 => envelope.origin = Cow::Borrowed(value.bytes()?),
                SCOPES => {
                    value.bytes()?;
                    has_scopes = true;
                }
                3 => envelope.schema_url = Cow::Borrowed(value.bytes()?),
                INSTRUMENTATION_LIBRARIES => {
                    let are_messages = matches!(value, FieldValue::Bytes(_));
                    libraries = Some(libraries.unwrap_or(true) && are_messages);
                }
                _ => {}
            }
        }
        if rules.maps_instrumentation_libraries() && !has_scopes && libraries == Some(true) {
            envelope.scopes = INSTRUMENTATION_LIBRARIES;
        }
        Ok(envelope)
    }
}

fn for_each<'a>(
    message: &'a [u8],
    number: u32,
    mut take: impl FnMut(&'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = ProtobufReader::new(message);
    while let Some((found, value)) = reader.field()? {
        if found == number {
            take(value.bytes()?)?;
        }
    }
    Ok(())
}
