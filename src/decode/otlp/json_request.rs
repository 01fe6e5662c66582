//! Walks the outer levels of an OTLP request in JSON. Keys may have any order, so the walk skips each level's object
//! once to find its members, and then reads them.
//!
//! An item that cannot be mapped is rejected alone. If a member around items cannot be mapped, the items below it are
//! rejected. A syntax error fails the whole request; it is found before an item of its resource is accepted.
//!
//! **Invariant:** no tree is built; only the current resource, scope and item are in memory.

use std::borrow::Cow;

use crate::decode::json::json_reader::{JsonReader, JsonType, SyntaxError};
use crate::decode::otlp::item::ItemKind;
use crate::decode::otlp::json_in_order::OrderedWalk;
use crate::decode::otlp::json_rejection::reject;
use crate::decode::otlp::json_to_protobuf::{self, Unmapped};
use crate::decode::otlp::resource_scope::{EncodedPart, SentPart};
use crate::decode::otlp::row_builder::RowBuilder;
use crate::decode::otlp::schema::{self, MessageSchema, is_named, is_snake_case};
use crate::decode::{DecodeError, ItemValidation};
use crate::event::Source;

/// The names of a signal's lists; each name here and below is in lowerCamelCase.
#[derive(Debug)]
pub(in crate::decode) struct RequestSchema {
    pub(in crate::decode) resources: &'static str,
    /// The current name of the list of scopes, and its name before OTLP 0.15.
    pub(in crate::decode) scopes: [&'static str; 2],
    /// For each level below a scope, down to the items, the names of the members that lead there.
    pub(in crate::decode) below_scope: &'static [&'static [&'static str]],
    pub(in crate::decode) item: &'static MessageSchema,
}

pub(in crate::decode) static SPANS: RequestSchema = RequestSchema {
    resources: "resourceSpans",
    scopes: ["scopeSpans", "instrumentationLibrarySpans"],
    below_scope: &[&["spans"]],
    item: &schema::SPAN,
};

pub(in crate::decode) static LOG_RECORDS: RequestSchema = RequestSchema {
    resources: "resourceLogs",
    scopes: ["scopeLogs", "instrumentationLibraryLogs"],
    below_scope: &[&["logRecords"]],
    item: &schema::LOG_RECORD,
};

/// The lists of all signals, each with the error text for another signal's path.
const ELSEWHERE: [(&str, &str); 3] = [
    (
        "resourceSpans",
        "resourceSpans are accepted on /v1/traces, not here: the value",
    ),
    (
        "resourceLogs",
        "resourceLogs are accepted on /v1/logs, not here: the value",
    ),
    (
        "resourceMetrics",
        "resourceMetrics are accepted on /v1/metrics, not here: the value",
    ),
];

/// The name of a resource's or a scope's schema URL.
pub(in crate::decode) const SCHEMA_URL: &str = "schemaUrl";

/// Walks a request of spans or log records.
///
/// # Errors
/// [`DecodeError::Malformed`] if the body is not JSON, is not an object, or has no list but another signal's.
pub(in crate::decode) fn walk<'a>(
    body: &'a [u8],
    lists: &'static RequestSchema,
    source: &'a Source,
    rows: &mut RowBuilder<'a, '_>,
    kind: &impl ItemKind,
) -> Result<(), DecodeError> {
    let mut message = Vec::new();
    walk_items(body, lists, source, rows, |item, _, rows| {
        let start = *item;
        message.clear();
        match json_to_protobuf::message(item, lists.item, source, &mut message) {
            Ok(repaired) => Ok(rows.item(kind, &message, repaired)?),
            Err(fault) => {
                *item = reject(start, &fault, &[], rows)?;
                Ok(())
            }
        }
    })
}

/// Walks a request and calls `take` with a reader at each item, and the function that skips a member of it.
///
/// # Errors
/// As [`walk`].
pub(in crate::decode) fn walk_items<'a, 's>(
    body: &'a [u8],
    lists: &'static RequestSchema,
    source: &'a Source,
    rows: &mut RowBuilder<'a, 's>,
    mut take: impl FnMut(
        &mut JsonReader<'a>,
        SkipMember<'a>,
        &mut RowBuilder<'a, 's>,
    ) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut reader = JsonReader::of_any_body(body);
    if reader.is_at_end() {
        let empty = reader.error("the body is empty; {} is a request without items");
        return Err(empty.of_whole_body());
    }
    if let Some(mut report) = rows.anew_without_sink() {
        let mut walk = OrderedWalk {
            lists,
            source,
            rows: &mut report,
            take: &mut take,
        };
        if walk.request(reader).is_some() {
            *rows = report;
            return Ok(());
        }
    }
    let mut walk = RequestWalk {
        lists,
        source,
        rows,
        take,
    };
    walk.request(&mut reader)?;
    Ok(reader.end()?)
}

/// The walk through one request.
struct RequestWalk<'a, 's, 'r, T> {
    lists: &'static RequestSchema,
    source: &'a Source,
    rows: &'r mut RowBuilder<'a, 's>,
    take: T,
}

impl<'a, 's, T> RequestWalk<'a, 's, '_, T>
where
    T: FnMut(
        &mut JsonReader<'a>,
        SkipMember<'a>,
        &mut RowBuilder<'a, 's>,
    ) -> Result<(), DecodeError>,
{
    /// Walks the outermost object. Its list is walked where it is found, so that the body is not skipped first. Only a
    /// list under its snake_case name waits for the end, because it does not count beside one in camelCase.
    ///
    /// Another signal's list instead of this signal's is an error: if it were ignored, all its items would be lost
    /// silently.
    fn request(&mut self, reader: &mut JsonReader<'a>) -> Result<(), DecodeError> {
        let name = self.lists.resources;
        reader.object()?;
        let (mut is_given, mut waiting, mut foreign) = (false, None, None);
        while let Some(key) = reader.next_key()? {
            let key = key.decode();
            let kind = reader.peek()?;
            let here = *reader;
            if kind == JsonType::Null && is_named(&key, name) {
                reader.null()?;
            } else if key == name {
                if std::mem::replace(&mut is_given, true) {
                    *reader = self.reject_list(here, &given_twice(here, name))?;
                } else {
                    *reader = self.resources(here)?;
                }
            } else if is_snake_case(&key, name) && !self.source.limits.strict_json {
                if waiting.is_some() {
                    *reader = self.reject_list(here, &given_twice(here, name))?;
                } else {
                    reader.skip()?;
                    waiting = Some(here);
                }
            } else {
                reader.skip()?;
                let elsewhere = ELSEWHERE
                    .iter()
                    .find(|(other, _)| *other != name && is_named(&key, other));
                match elsewhere {
                    Some((_, text)) if kind == JsonType::Array => foreign = Some(here.error(text)),
                    _ => self.rows.unknown(&key),
                }
            }
        }
        match (waiting, foreign) {
            (Some(list), _) if !is_given => self.resources(list).map(drop),
            (None, Some(foreign)) if !is_given => Err(foreign.into()),
            _ => Ok(()),
        }
    }

    /// Walks the list of resources; returns the reader after it.
    fn resources(&mut self, mut list: JsonReader<'a>) -> Result<JsonReader<'a>, DecodeError> {
        if list.peek()? != JsonType::Array {
            let fault = Unmapped::from(list.error(NO_ARRAY)).within(self.lists.resources);
            return self.reject_list(list, &fault);
        }
        each(&mut list, |resource| self.resource(resource))?;
        Ok(list)
    }

    /// Rejects the items in a list of resources; returns the reader after it.
    fn reject_list(
        &mut self,
        list: JsonReader<'a>,
        fault: &Unmapped,
    ) -> Result<JsonReader<'a>, DecodeError> {
        let levels = self.below_resource();
        Ok(reject(list, fault, &levels, self.rows)?)
    }

    /// Returns, for each level below a resource, down to the items, the names of the members that lead there.
    fn below_resource(&self) -> Vec<&'static [&'static str]> {
        let mut levels: Vec<&'static [&'static str]> = vec![&self.lists.scopes];
        levels.extend_from_slice(self.lists.below_scope);
        levels
    }

    fn resource(&mut self, at: &mut JsonReader<'a>) -> Result<(), DecodeError> {
        let start = *at;
        let [current, libraries] = self.lists.scopes;
        let names = ["resource", SCHEMA_URL, current, libraries];
        let skip: SkipMember<'a> = match self.rows.validation() {
            ItemValidation::Needed => skip_unread,
            ItemValidation::Done => JsonReader::skip_valid,
        };
        let (part, [_, _, scopes, libraries]) =
            match self.around(at, names, &schema::RESOURCE, skip) {
                Ok(read) => read,
                Err(fault) => {
                    *at = self.reject_list(start, &fault)?;
                    return Ok(());
                }
            };
        self.rows
            .resource(EncodedPart::resource(part, self.source)?);

        let maps_libraries = self.source.maps_instrumentation_libraries();
        let libraries = libraries.filter(|_| maps_libraries && !scopes.is_some_and(has_elements));
        let (list, name) = match (libraries, scopes) {
            (Some(list), _) => (list, "instrumentationLibrary"),
            (None, Some(list)) => (list, "scope"),
            (None, None) => return Ok(()),
        };
        self.list(list, current, self.lists.below_scope, |walk, scope| {
            walk.scope(scope, name)
        })
    }

    fn scope(&mut self, at: &mut JsonReader<'a>, name: &'static str) -> Result<(), DecodeError> {
        let start = *at;
        let [items, below @ ..] = self.lists.below_scope else {
            return Ok(());
        };
        let names = [name, SCHEMA_URL, items[0]];
        let (part, [_, _, list]) =
            match self.around(at, names, &schema::SCOPE, JsonReader::skip_valid) {
                Ok(read) => read,
                Err(fault) => {
                    *at = reject(start, &fault, self.lists.below_scope, self.rows)?;
                    return Ok(());
                }
            };
        self.rows.scope(EncodedPart::scope(part, self.source)?);
        let Some(list) = list else {
            return Ok(());
        };
        self.list(list, items[0], below, |walk, item| {
            (walk.take)(item, JsonReader::skip_valid, walk.rows)
        })
    }

    /// Reads the object around a list of scopes or items. The first two names are those of its resource or scope and of
    /// the schema URL, which are converted; the result also has a reader at the member of each name.
    fn around<const N: usize>(
        &mut self,
        at: &mut JsonReader<'a>,
        names: [&'static str; N],
        schema: &'static MessageSchema,
        skip: SkipMember<'a>,
    ) -> Result<(SentPart<'a>, [Option<JsonReader<'a>>; N]), Unmapped> {
        let found = members(at, names, self.source, skip, |name| self.rows.unknown(name))?;
        let part = sent_part(names[0], found[0], found[1], schema, self.source)?;
        Ok((part, found))
    }

    /// Passes each element of the list `name` to `take`; `below` has the levels in its elements.
    fn list(
        &mut self,
        mut list: JsonReader<'a>,
        name: &'static str,
        below: &[&[&str]],
        mut take: impl FnMut(&mut Self, &mut JsonReader<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if list.peek()? != JsonType::Array {
            let fault = Unmapped::from(list.error(NO_ARRAY)).within(name);
            reject(list, &fault, below, self.rows)?;
            return Ok(());
        }
        each(&mut list, |element| take(self, element))
    }
}

const NO_ARRAY: &str = "an array is expected";

fn given_twice(here: JsonReader<'_>, name: &'static str) -> Unmapped {
    Unmapped::from(here.error("a key is given twice")).within(name)
}

/// Skips the value of a member. Below a resource, whose members are skipped before one of them is read, only the end of
/// a value is looked for.
pub(in crate::decode) type SkipMember<'a> = fn(&mut JsonReader<'a>) -> Result<(), SyntaxError>;

pub(in crate::decode) fn skip_unread(reader: &mut JsonReader<'_>) -> Result<(), SyntaxError> {
    reader.skip().map(drop)
}

/// Reads the next value, an object or `null`, and returns a reader at the member of each name. A member that is `null`
/// counts as absent. Other names are passed to `unknown`.
///
/// # Errors
/// [`Unmapped`] if the value is neither, or has a member twice.
pub(in crate::decode) fn members<'a, const N: usize>(
    reader: &mut JsonReader<'a>,
    names: [&'static str; N],
    source: &Source,
    skip: SkipMember<'a>,
    mut unknown: impl FnMut(&str),
) -> Result<[Option<JsonReader<'a>>; N], Unmapped> {
    let mut found = [None; N];
    let mut is_camel = [false; N];
    if reader.peek()? == JsonType::Null {
        reader.null()?;
        return Ok(found);
    }
    reader.object()?;
    while let Some(key) = reader.next_key()? {
        let key = key.decode();
        let kind = reader.peek()?;
        let here = *reader;
        skip(reader)?;
        let is_snake = |name: &&str| !source.limits.strict_json && is_snake_case(&key, name);
        let index = names.iter().position(|name| key == *name);
        let index = index.or_else(|| names.iter().position(is_snake));
        let Some(index) = index else {
            unknown(&key);
            continue;
        };
        let camel = names[index];
        if kind == JsonType::Null || key != camel && is_camel[index] {
            continue;
        }
        if found[index].is_some() && is_camel[index] == (key == camel) {
            return Err(given_twice(here, camel));
        }
        (found[index], is_camel[index]) = (Some(here), key == camel);
    }
    Ok(found)
}

/// Passes each element of an array to `take`.
pub(in crate::decode) fn each<'a>(
    reader: &mut JsonReader<'a>,
    mut take: impl FnMut(&mut JsonReader<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    reader.array()?;
    while reader.next_element()? {
        take(reader)?;
    }
    Ok(())
}

fn has_elements(mut list: JsonReader<'_>) -> bool {
    list.array().is_ok() && list.next_element() == Ok(true)
}

/// Converts a resource or a scope, whose member is `name`, and the schema URL beside it.
fn sent_part<'a>(
    name: &'static str,
    part: Option<JsonReader<'_>>,
    schema_url: Option<JsonReader<'_>>,
    schema: &'static MessageSchema,
    source: &Source,
) -> Result<SentPart<'a>, Unmapped> {
    let (mut message, mut url) = (Vec::new(), Vec::new());
    let mut repaired = 0;
    if let Some(mut reader) = part {
        repaired = json_to_protobuf::message(&mut reader, schema, source, &mut message)
            .map_err(|fault| fault.within(name))?;
    }
    if let Some(mut reader) = schema_url {
        repaired += json_to_protobuf::text(&mut reader, source, &mut url)
            .map_err(|fault| fault.within(SCHEMA_URL))?;
    }
    Ok(SentPart {
        message: Cow::Owned(message),
        schema_url: Cow::Owned(url),
        repaired_texts: repaired,
    })
}
