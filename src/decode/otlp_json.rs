//! The outer levels of an OTLP request in JSON. Keys come in any order, so a level's object is passed over once to find
//! where its members stand, and then entered.
//!
//! **Invariant:** no tree is built: in memory at a time are the resource, the scope and the one item at hand.

use std::borrow::Cow;

use super::origin::Part;
use super::scan::{Kind, Scanner, SyntaxError};
use super::schema;
use super::schema::Message;
use super::transcode;
use super::walk::Visitor;
use super::{DecodeError, Limits};

/// The names of a signal's lists: lowerCamelCase and snake_case.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) resources: Name,
    pub(super) scopes: Name,
    pub(super) items: Name,
    pub(super) item: &'static Message,
}

type Name = (&'static str, &'static str);

pub(super) static SPANS: Lists = Lists {
    resources: ("resourceSpans", "resource_spans"),
    scopes: ("scopeSpans", "scope_spans"),
    items: ("spans", "spans"),
    item: &schema::SPAN,
};

pub(super) static LOG_RECORDS: Lists = Lists {
    resources: ("resourceLogs", "resource_logs"),
    scopes: ("scopeLogs", "scope_logs"),
    items: ("logRecords", "log_records"),
    item: &schema::LOG_RECORD,
};

/// The lists of all signals, with what is said of each where it is not taken.
const ELSEWHERE: [(Name, &str); 3] = [
    (
        ("resourceSpans", "resource_spans"),
        "resourceSpans are taken on /v1/traces, not here: the value",
    ),
    (
        ("resourceLogs", "resource_logs"),
        "resourceLogs are taken on /v1/logs, not here: the value",
    ),
    (
        ("resourceMetrics", "resource_metrics"),
        "resourceMetrics are taken on /v1/metrics, not here: the value",
    ),
];

const SCHEMA_URL: Name = ("schemaUrl", "schema_url");

/// Walks a request; nothing at all is an empty one.
///
/// # Errors
/// When it is not JSON, or not the message it should be.
pub(super) fn walk<'a>(
    body: &'a [u8],
    lists: &'static Lists,
    limits: &'a Limits,
    visitor: &mut impl Visitor<'a>,
) -> Result<(), DecodeError> {
    let mut message = Vec::new();
    walk_items(body, lists, limits, visitor, |item, visitor| {
        message.clear();
        transcode::message(item, lists.item, limits, &mut message)?;
        Ok(visitor.item(&message)?)
    })
}

/// Walks a request whose items are taken by `take`, each from where it stands.
///
/// # Errors
/// As [`walk`].
pub(super) fn walk_items<'a, V: Visitor<'a>>(
    body: &'a [u8],
    lists: &'static Lists,
    limits: &'a Limits,
    visitor: &mut V,
    mut take: impl FnMut(&mut Scanner<'a>, &mut V) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut scanner = Scanner::of_body(body)?;
    if scanner.is_at_end() {
        return Ok(());
    }
    request(&mut scanner, lists.resources, limits, |resource| {
        let names = [("resource", "resource"), SCHEMA_URL, lists.scopes];
        let [resource, schema_url, scopes] = members(resource, names, limits)?;
        let resource = origin(resource, &schema::RESOURCE, limits)?;
        let schema_url = text(schema_url)?;
        visitor.resource(Part::resource(resource, schema_url, limits)?);
        let Some(mut scopes) = scopes else {
            return Ok(());
        };
        each(&mut scopes, |scope| {
            let names = [("scope", "scope"), SCHEMA_URL, lists.items];
            let [scope, schema_url, items] = members(scope, names, limits)?;
            let scope = origin(scope, &schema::SCOPE, limits)?;
            let schema_url = text(schema_url)?;
            visitor.scope(Part::scope(scope, schema_url, limits)?);
            let Some(mut items) = items else {
                return Ok(());
            };
            each(&mut items, |item| take(item, visitor))
        })
    })?;
    Ok(scanner.end()?)
}

/// The outermost object: its one list is entered where it stands, so that the body is not passed over first. Only a list
/// under its snake_case name waits for the end, as it does not count beside one in camelCase.
///
/// Another signal's list in the place of its own is an error: to pass over it as unknown would lose all of it in silence.
fn request<'a>(
    scanner: &mut Scanner<'a>,
    (camel, snake): Name,
    limits: &Limits,
    mut take: impl FnMut(&mut Scanner<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    scanner.object()?;
    let (mut is_taken, mut waiting, mut foreign) = (false, None, None);
    let mut is_first = true;
    while let Some(key) = scanner.next_key(&mut is_first)? {
        let key = key.decode();
        let kind = scanner.peek()?;
        let here = *scanner;
        if kind == Kind::Null || (key != camel && key != snake) {
            scanner.skip()?;
            let elsewhere = ELSEWHERE
                .iter()
                .find(|(names, _)| key == names.0 || key == names.1);
            if let (Kind::Array, Some((_, told))) = (kind, elsewhere) {
                foreign = Some(here.error(told));
            }
        } else if key == camel {
            if std::mem::replace(&mut is_taken, true) {
                return Err(here.error(TWICE).into());
            }
            each(scanner, &mut take)?;
        } else {
            scanner.skip()?;
            if !limits.strict_json && waiting.replace(here).is_some() {
                return Err(here.error(TWICE).into());
            }
        }
    }
    match (waiting, foreign) {
        (Some(mut list), _) if !is_taken => each(&mut list, take),
        (None, Some(foreign)) if !is_taken => Err(foreign.into()),
        _ => Ok(()),
    }
}

const TWICE: &str = "a key is given twice";

/// Where the members of those names stand in the next value, an object or `null`. A member that is `null` is as if absent.
pub(super) fn members<'a, const N: usize>(
    scanner: &mut Scanner<'a>,
    names: [Name; N],
    limits: &Limits,
) -> Result<[Option<Scanner<'a>>; N], SyntaxError> {
    let mut found = [None; N];
    let mut is_camel = [false; N];
    if scanner.peek()? == Kind::Null {
        scanner.null()?;
        return Ok(found);
    }
    scanner.object()?;
    let mut is_first = true;
    while let Some(key) = scanner.next_key(&mut is_first)? {
        let key = key.decode();
        let kind = scanner.peek()?;
        let here = *scanner;
        scanner.skip()?;
        if kind == Kind::Null {
            continue;
        }
        for (index, (camel, snake)) in names.iter().enumerate() {
            if key == *camel {
                if is_camel[index] {
                    return Err(here.error(TWICE));
                }
                (found[index], is_camel[index]) = (Some(here), true);
            } else if key == *snake && !limits.strict_json && !is_camel[index] {
                if found[index].is_some() {
                    return Err(here.error(TWICE));
                }
                found[index] = Some(here);
            }
        }
    }
    Ok(found)
}

/// Hands on each element of an array.
pub(super) fn each<'a>(
    scanner: &mut Scanner<'a>,
    mut take: impl FnMut(&mut Scanner<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    scanner.array()?;
    let mut is_first = true;
    while scanner.next_element(&mut is_first)? {
        take(scanner)?;
    }
    Ok(())
}

/// A resource or a scope as protobuf.
fn origin<'a>(
    object: Option<Scanner<'_>>,
    schema: &'static Message,
    limits: &Limits,
) -> Result<Cow<'a, [u8]>, SyntaxError> {
    let mut message = Vec::new();
    if let Some(mut scanner) = object {
        transcode::message(&mut scanner, schema, limits, &mut message)?;
    }
    Ok(Cow::Owned(message))
}

fn text<'a>(text: Option<Scanner<'_>>) -> Result<Cow<'a, [u8]>, SyntaxError> {
    let mut bytes = Vec::new();
    if let Some(mut scanner) = text {
        scanner.text()?.decode_bytes(&mut bytes);
    }
    Ok(Cow::Owned(bytes))
}
