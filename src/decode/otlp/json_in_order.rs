//! Walks a request in JSON whose members are in the order in which encoders write them: a resource before its scopes, a
//! scope before its items. Each item is then read once, where it is found.
//!
//! The walk gives up at the first surprise around the items, a syntax error included, and says nothing about the request:
//! the walk of any order ([`json_request`]) begins anew. So it serves reports, but not sinks.
//!
//! **Invariant:** if the walk reaches the end of a request, its report is that of the walk of any order.
//!
//! [`json_request`]: crate::decode::otlp::json_request

use std::borrow::Cow;

use crate::decode::DecodeError;
use crate::decode::json::json_reader::JsonReader;
use crate::decode::otlp::json_request::{RequestSchema, SCHEMA_URL, SkipMember, skip_unread};
use crate::decode::otlp::json_to_protobuf;
use crate::decode::otlp::resource_scope::{EncodedPart, SentPart};
use crate::decode::otlp::row_builder::RowBuilder;
use crate::decode::otlp::schema::{self, MessageSchema};
use crate::event::Source;

/// The walk through one request; `take` receives a reader at each item. Each function returns `None` if it gives up.
pub(in crate::decode) struct OrderedWalk<'a, 's, 'r, T> {
    pub(in crate::decode) lists: &'static RequestSchema,
    pub(in crate::decode) source: &'a Source,
    pub(in crate::decode) rows: &'r mut RowBuilder<'a, 's>,
    pub(in crate::decode) take: T,
}

impl<'a, 's, T> OrderedWalk<'a, 's, '_, T>
where
    T: FnMut(
        &mut JsonReader<'a>,
        SkipMember<'a>,
        &mut RowBuilder<'a, 's>,
    ) -> Result<(), DecodeError>,
{
    /// Walks the outermost object, which has the list of resources alone.
    pub(in crate::decode) fn request(&mut self, mut reader: JsonReader<'a>) -> Option<()> {
        let mut has_list = false;
        reader.object().ok()?;
        while let Some(key) = reader.next_key().ok()? {
            if has_list || key.plain()? != self.lists.resources {
                return None;
            }
            has_list = true;
            each(&mut reader, |resource| self.resource(resource))?;
        }
        reader.end().ok()
    }

    fn resource(&mut self, reader: &mut JsonReader<'a>) -> Option<()> {
        let [scopes, _] = self.lists.scopes;
        let counted = self.rows.counted_scopes();
        let begin = |walk: &mut Self, part| {
            let resource = EncodedPart::resource(part, walk.source).ok()?;
            walk.rows.resource(resource);
            Some(())
        };
        let names = ["resource", scopes];
        let url_bytes = self.around(reader, names, &schema::RESOURCE, begin, Self::scope)?;
        let scopes = self.rows.counted_scopes() - counted;
        self.rows.add_origin_bytes(url_bytes.checked_mul(scopes)?)
    }

    fn scope(&mut self, reader: &mut JsonReader<'a>) -> Option<()> {
        let [[items, ..], ..] = self.lists.below_scope else {
            return None;
        };
        let counted = self.rows.counted_scopes();
        let begin = |walk: &mut Self, part| {
            let scope = EncodedPart::scope(part, walk.source).ok()?;
            walk.rows.scope(scope);
            Some(())
        };
        let item = |walk: &mut Self, item: &mut JsonReader<'a>| {
            (walk.take)(item, skip_unread, walk.rows).ok()
        };
        let url_bytes = self.around(reader, ["scope", items], &schema::SCOPE, begin, item)?;
        let is_counted = self.rows.counted_scopes() - counted;
        self.rows
            .add_origin_bytes(url_bytes.checked_mul(is_counted)?)
    }

    /// Reads the object around a list of scopes or items: the resource or scope, which is passed to `begin`, its schema
    /// URL, and the list. The URL may follow the list if it is stored as sent; returns its length in that case, otherwise
    /// 0.
    fn around(
        &mut self,
        reader: &mut JsonReader<'a>,
        [name, list]: [&str; 2],
        schema: &'static MessageSchema,
        begin: impl FnOnce(&mut Self, SentPart<'a>) -> Option<()>,
        mut element: impl FnMut(&mut Self, &mut JsonReader<'a>) -> Option<()>,
    ) -> Option<usize> {
        let mut begin = Some(begin);
        let mut part = SentPart::default();
        let (mut has_part, mut has_url, mut following_bytes) = (false, false, 0);
        reader.object().ok()?;
        while let Some(key) = reader.next_key().ok()? {
            let key = key.plain()?;
            if key == list {
                begin.take()?(self, std::mem::take(&mut part))?;
                each(reader, |at| element(self, at))?;
            } else if key == name && begin.is_some() && !has_part {
                has_part = true;
                // A resource that is `null` counts as absent, so that another one may follow.
                reader.clone().object().ok()?;
                let mut message = Vec::new();
                part.repaired_texts +=
                    json_to_protobuf::message(reader, schema, self.source, &mut message).ok()?;
                part.message = Cow::Owned(message);
            } else if key == SCHEMA_URL && !has_url {
                has_url = true;
                if begin.is_some() {
                    let mut url = Vec::new();
                    part.repaired_texts +=
                        json_to_protobuf::text(reader, self.source, &mut url).ok()?;
                    part.schema_url = Cow::Owned(url);
                } else {
                    following_bytes = reader.text().ok()?.plain()?.len();
                }
            } else {
                return None;
            }
        }
        if let Some(begin) = begin {
            begin(self, part)?;
        }
        Some(following_bytes)
    }
}

fn each<'a>(
    reader: &mut JsonReader<'a>,
    mut take: impl FnMut(&mut JsonReader<'a>) -> Option<()>,
) -> Option<()> {
    reader.array().ok()?;
    while reader.next_element().ok()? {
        take(reader)?;
    }
    Some(())
}
