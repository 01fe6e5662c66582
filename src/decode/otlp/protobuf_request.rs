//! Walks the outer levels of an OTLP request in protobuf: request, resource and scope.
//!
//! The three signals share one shape. Field 1 of a request repeats a resource with its scopes (`resource = 1`,
//! `scope… = 2`, `schema_url = 3`); a scope's messages repeat the items (`scope = 1`, items `= 2`, `schema_url = 3`).
//! Before OTLP 0.15 the scopes were field 1000 (`instrumentation_library… = 1`, the rest alike); they are read if a
//! resource has none in field 2.
//!
//! **Invariant:** each level is read at most twice, and the walk copies nothing but the current resource and scope.

use std::borrow::Cow;

use crate::decode::otlp::resource_scope::{EncodedPart, SentPart};
use crate::decode::otlp::row_builder::RowBuilder;
use crate::decode::protobuf::{FieldValue, Malformed, ProtobufReader};
use crate::event::Source;

const SCOPES: u32 = 2;
const INSTRUMENTATION_LIBRARIES: u32 = 1000;
const ITEMS: u32 = 2;

/// Walks a request and calls `take` with each item.
///
/// # Errors
/// [`Malformed`] if the bytes are not an export request of the signal, or `take` fails.
pub(in crate::decode) fn walk<'a, 's>(
    request: &'a [u8],
    source: &'a Source,
    rows: &mut RowBuilder<'a, 's>,
    mut take: impl FnMut(&'a [u8], &mut RowBuilder<'a, 's>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    for_each(request, 1, |resource| {
        let outer = OuterMessage::of(resource, source)?;
        rows.resource(EncodedPart::resource(outer.part, source)?);
        for_each(resource, outer.scopes, |scope| {
            let outer = OuterMessage::of(scope, source)?;
            rows.scope(EncodedPart::scope(outer.part, source)?);
            for_each(scope, ITEMS, |item| take(item, rows))
        })
    })
}

/// The fields of an outer message without its list, before or after which they may arrive.
struct OuterMessage<'a> {
    /// The resource or scope; a copy if it arrived in pieces.
    part: SentPart<'a>,
    /// Number of the field with a resource's scopes.
    scopes: u32,
}

impl<'a> OuterMessage<'a> {
    fn of(message: &'a [u8], source: &Source) -> Result<Self, Malformed> {
        let mut outer = Self {
            part: SentPart::default(),
            scopes: SCOPES,
        };
        let (mut has_scopes, mut libraries) = (false, None);
        let mut reader = ProtobufReader::new(message);
        while let Some((number, value)) = reader.field()? {
            match number {
                1 if source.merges_pieces() && !outer.part.message.is_empty() => {
                    outer
                        .part
                        .message
                        .to_mut()
                        .extend_from_slice(value.bytes()?);
                }
                1 => outer.part.message = Cow::Borrowed(value.bytes()?),
                SCOPES => {
                    value.bytes()?;
                    has_scopes = true;
                }
                3 => outer.part.schema_url = Cow::Borrowed(value.bytes()?),
                INSTRUMENTATION_LIBRARIES => {
                    let are_messages = matches!(value, FieldValue::Bytes(_));
                    libraries = Some(libraries.unwrap_or(true) && are_messages);
                }
                _ => {}
            }
        }
        if source.maps_instrumentation_libraries() && !has_scopes && libraries == Some(true) {
            outer.scopes = INSTRUMENTATION_LIBRARIES;
        }
        Ok(outer)
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
