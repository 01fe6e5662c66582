//! The outer levels of an OTLP request over the wire: request, resource, scope. Each item is handed on as its bytes.
//!
//! The three signals share the shape: a request's field 1 repeats a resource with its scopes (`resource = 1`,
//! `scope… = 2`, `schema_url = 3`), a scope's messages repeat the items (`scope = 1`, items `= 2`, `schema_url = 3`).
//!
//! **Invariant:** one pass over each level, no memory but for the resource and scope at hand.

use super::Limits;
use super::origin::Part;
use super::wire::{Malformed, Reader};

/// Takes what a walk finds, in the order of the request.
pub(super) trait Visitor<'a> {
    /// A resource begins; the scopes that follow belong to it.
    fn resource(&mut self, resource: Part<'a>);
    /// A scope begins; the items that follow belong to it.
    fn scope(&mut self, scope: Part<'a>);
    /// One item's message.
    fn item(&mut self, item: &[u8]) -> Result<(), Malformed>;
}

/// Walks a request.
///
/// # Errors
/// When the bytes are not the message they should be.
pub(super) fn walk<'a>(
    request: &'a [u8],
    limits: &'a Limits,
    visitor: &mut impl Visitor<'a>,
) -> Result<(), Malformed> {
    for_each(request, 1, |resource_items| {
        let Envelope { origin, schema_url } = Envelope::of(resource_items)?;
        visitor.resource(Part::resource(origin.into(), schema_url.into(), limits)?);
        for_each(resource_items, 2, |scope_items| {
            let Envelope { origin, schema_url } = Envelope::of(scope_items)?;
            visitor.scope(Part::scope(origin.into(), schema_url.into(), limits)?);
            for_each(scope_items, 2, |item| visitor.item(item))
        })
    })
}

/// What the two outer messages hold beside their repeated field 2; it may stand after that on the wire.
struct Envelope<'a> {
    origin: &'a [u8],
    schema_url: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn of(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut envelope = Self {
            origin: &[],
            schema_url: &[],
        };
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.field()? {
            match number {
                1 => envelope.origin = value.bytes()?,
                2 => drop(value.bytes()?),
                3 => envelope.schema_url = value.bytes()?,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

fn for_each<'a>(
    message: &'a [u8],
    number: u32,
    mut take: impl FnMut(&'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(message);
    while let Some((found, value)) = reader.field()? {
        if found == number {
            take(value.bytes()?)?;
        }
    }
    Ok(())
}
