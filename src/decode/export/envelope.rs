//! What stands around items: resources and scopes, with the lists that hold them.
//!
//! **Invariant:** equal resources and scopes are written once in an export.

use super::members::{Members, copy};
use super::message;
use crate::decode::scan::SyntaxError;
use crate::decode::schema::{self, Field, Kind, Message, many, one};
use crate::event::Signal;

/// One list around items, from the outermost in.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) list: &'static str,
    /// What closes an element of it.
    pub(super) end: &'static str,
}

const fn levels(resources: &'static str, scopes: &'static str, items: &'static str) -> [Level; 3] {
    [
        Level {
            list: resources,
            end: "}",
        },
        Level {
            list: scopes,
            end: "}",
        },
        Level {
            list: items,
            end: "",
        },
    ]
}

/// The message of an export of a signal, and its lists.
pub(super) fn of(signal: Signal) -> (&'static Message, &'static [Level]) {
    match signal {
        _ => (&TRACES_DATA, &TRACES_LEVELS),
    }
}

/// What a resource's element has beside its scopes: an object, not closed yet.
///
/// # Errors
/// When what is stored is no resource.
pub(super) fn resource(row: &Members<'_>) -> Result<String, SyntaxError> {
    own("resource", &schema::RESOURCE, row)
}

/// The same for a scope's element, beside its items.
///
/// # Errors
/// When what is stored is no scope.
pub(super) fn scope(row: &Members<'_>) -> Result<String, SyntaxError> {
    own("scope", &schema::SCOPE, row)
}

/// The schema URL is stored with the resource or scope, and stands beside it in OTLP.
fn own(name: &str, schema: &'static Message, row: &Members<'_>) -> Result<String, SyntaxError> {
    let stored = Members::of(row.find(name).unwrap_or("{}"))?;
    let mut out = format!("{{\"{name}\": {{");
    for (name, value) in stored.iter() {
        message::member(&mut out, schema, name, value)?;
    }
    out.push('}');
    copy(&mut out, "schemaUrl", stored.find("schemaUrl"));
    Ok(out)
}

static TRACES_LEVELS: [Level; 3] = levels("resourceSpans", "scopeSpans", "spans");
static TRACES_DATA: Message = of_fields(&[many(
    1,
    "resourceSpans",
    "resource_spans",
    Kind::Message(&RESOURCE_SPANS),
)]);
static RESOURCE_SPANS: Message = of_fields(&[
    one(1, "resource", "resource", Kind::Message(&schema::RESOURCE)),
    many(2, "scopeSpans", "scope_spans", Kind::Message(&SCOPE_SPANS)),
    one(3, "schemaUrl", "schema_url", Kind::Text),
]);
static SCOPE_SPANS: Message = of_fields(&[
    one(1, "scope", "scope", Kind::Message(&schema::SCOPE)),
    many(2, "spans", "spans", Kind::Message(&schema::SPAN)),
    one(3, "schemaUrl", "schema_url", Kind::Text),
]);

const fn of_fields(fields: &'static [Field]) -> Message {
    Message {
        is_value: false,
        fields,
    }
}
