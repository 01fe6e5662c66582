//! The format of an answer: native JSON, or OTLP in JSON or protobuf.
//!
//! A client requests OTLP by `format=otlp`, which is JSON unless `Accept` prefers protobuf. An `Accept` that prefers
//! protobuf also requests OTLP, as nothing else is written in protobuf.
//!
//! **Invariant:** if an export exceeds the size of a page, it is cut at a whole event, and the link to the next page
//! continues with the first event that was left out.

use std::collections::VecDeque;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::decode::export::{self, AddOutcome, Export, ExportEncoding};
use crate::event::Signal;
use crate::query::answer_memory::AnswerGrant;
use crate::query::cursor::{PageKey, SortOrder};
use crate::query::error::QueryError;
use crate::query::page::{FoundEvent, ResultPage};
use crate::query::slot_body;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// The format that a page is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerFormat {
    /// A JSON array.
    Json,
    /// The only event of the page as a JSON object.
    JsonEvent,
    Otlp(Signal, ExportEncoding),
}

/// Returns the encoding of OTLP that a request asks for; `None` if it asks for native JSON.
///
/// # Errors
/// [`QueryError::Parameter`] for another `format`, [`QueryError::NotAcceptable`] if `format=otlp` is requested and
/// `Accept` allows neither JSON nor protobuf.
pub(super) fn form(
    pairs: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Option<ExportEncoding>, QueryError> {
    let (json, protobuf) = accepted(headers);
    let format = pairs.iter().find(|(name, _)| name == "format");
    match format.map(|(_, value)| value.as_str()) {
        Some("otlp") | None if protobuf > json => Ok(Some(ExportEncoding::Protobuf)),
        Some("otlp") if json > 0.0 => Ok(Some(ExportEncoding::Json)),
        Some("otlp") => Err(QueryError::NotAcceptable),
        Some(_) => Err(QueryError::parameter("format", "format must be otlp")),
        None => Ok(None),
    }
}

/// Returns the weights of JSON and protobuf in `Accept`, from 0 to 1 (RFC 9110, section 12.5.1).
///
/// If a type is repeated, its highest weight counts. A range of types counts for JSON, unless JSON or a narrower range
/// is named, too.
fn accepted(headers: &HeaderMap) -> (f32, f32) {
    let (mut json, mut protobuf, mut application, mut any) = (None, None, None, None);
    let values = headers.get_all(header::ACCEPT).iter();
    let mut has_none = true;
    for range in values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        has_none = false;
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts
            .find_map(|parameter| parameter.strip_prefix(['q', 'Q'])?.strip_prefix('='))
            .map_or(1.0, |weight| weight.parse().unwrap_or(0.0_f32));
        let weight = if weight <= 1.0 { weight } else { 0.0 };
        let place = match &*media {
            JSON => &mut json,
            PROTOBUF => &mut protobuf,
            "application/*" => &mut application,
            "*/*" => &mut any,
            _ => continue,
        };
        *place = Some(place.map_or(weight, |before: f32| before.max(weight)));
    }
    let default = if has_none { 1.0 } else { 0.0 };
    (
        json.or(application).or(any).unwrap_or(default),
        protobuf.unwrap_or(0.0),
    )
}

/// Returns the OTLP signal that an event belongs to.
///
/// # Errors
/// [`QueryError::Parameter`] if it is not an OTLP item, [`QueryError::Unreadable`] if its row was changed in the
/// database.
pub(super) fn signal(event: &FoundEvent) -> Result<Signal, QueryError> {
    let id = event.key.id;
    export::signal(&event.json)
        .map_err(|error| QueryError::Unreadable(id, error))?
        .ok_or_else(|| {
            let reason = format!("event {id} is not an OTLP item and cannot be written as OTLP");
            QueryError::parameter("format", reason)
        })
}

/// An answer that is ready to be sent.
pub(super) struct WrittenAnswer {
    /// The content type.
    media: &'static str,
    body: VecDeque<Bytes>,
    /// The key after which the next page begins, if there may be one.
    pub(super) next: Option<PageKey>,
    held: AnswerGrant,
}

impl WrittenAnswer {
    pub(super) fn response(self) -> Response {
        let media = HeaderValue::from_static(self.media);
        let body = slot_body::body(self.body, self.held);
        ([(header::CONTENT_TYPE, media)], body).into_response()
    }
}

/// Maximum factor by which an export is longer than the stored JSON: it adds the type of each member, which weighs most
/// for small members.
const EXPORT_GROWTH: usize = 12;

impl AnswerFormat {
    /// Writes a page. Events that do not fit into an export of `room_bytes` are left to the next page.
    ///
    /// # Errors
    /// [`QueryError::Unreadable`] if a row was changed in the database so that it cannot be exported,
    /// [`QueryError::NoMemory`] if other answers hold the memory.
    pub(super) async fn write(
        self,
        mut page: ResultPage,
        order: SortOrder,
        room_bytes: usize,
        mut held: AnswerGrant,
    ) -> Result<WrittenAnswer, QueryError> {
        let (media, next, body) = match self {
            Self::Json => (JSON, page.next(order), page.into_json()),
            Self::JsonEvent => {
                let events = page.events.into_iter();
                (JSON, None, events.map(|event| event.json.into()).collect())
            }
            Self::Otlp(signal, form) => {
                // An export is held twice: as items, and as one text.
                let largest = page.events.iter().map(|event| event.json.len()).max();
                let most = page.held_bytes().saturating_mul(EXPORT_GROWTH);
                let export_bytes = most.min(room_bytes).max(largest.unwrap_or(0));
                let holding = held.hold(export_bytes.saturating_mul(2)).await;
                holding.map_err(|_| QueryError::NoMemory)?;
                let media = match form {
                    ExportEncoding::Json => JSON,
                    ExportEncoding::Protobuf => PROTOBUF,
                };
                // Writing an answer of this size would delay other requests on the runtime's thread.
                let written = tokio::task::spawn_blocking(move || {
                    let body = export(&mut page, signal, form, room_bytes)?;
                    Ok::<_, QueryError>((page.next(order), body))
                });
                let (next, body) = written.await.expect("an export does not panic")?;
                let parts = [Bytes::from(body)].into_iter();
                (media, next, parts.filter(|part| !part.is_empty()).collect())
            }
        };
        // Releases the memory that only reading and writing needed.
        held.keep(body.iter().map(Bytes::len).sum());
        Ok(WrittenAnswer {
            media,
            body,
            next,
            held,
        })
    }
}

/// Exports the events of a page, and cuts the page before the first event that does not fit.
fn export(
    page: &mut ResultPage,
    signal: Signal,
    form: ExportEncoding,
    room_bytes: usize,
) -> Result<Vec<u8>, QueryError> {
    let mut export = Export::new(signal, room_bytes);
    let mut last = 0;
    for index in 0..page.events.len() {
        let event = &mut page.events[index];
        last = event.key.id;
        let taken = export.take(&std::mem::take(&mut event.json));
        match taken.map_err(|error| QueryError::Unreadable(last, error))? {
            AddOutcome::Yes | AddOutcome::NotOtlp => {}
            AddOutcome::NoRoom => {
                page.events.truncate(index);
                page.more = true;
                break;
            }
        }
    }
    export
        .finish(form)
        .map_err(|error| QueryError::Unreadable(last, error))
}

#[cfg(test)]
mod tests {
    use axum::http::header::ACCEPT;

    use super::{ExportEncoding, HeaderMap, QueryError, form};

    fn asked(
        format: Option<&str>,
        accept: &[&'static str],
    ) -> Result<Option<ExportEncoding>, QueryError> {
        let pairs: Vec<_> = format
            .map(|format| ("format".to_owned(), format.to_owned()))
            .into_iter()
            .collect();
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, axum::http::HeaderValue::from_static(value));
        }
        form(&pairs, &headers)
    }

    #[test]
    fn otlp_is_json_unless_protobuf_is_wanted_more() {
        for (accept, form) in [
            (&[][..], ExportEncoding::Json),
            (&["*/*"], ExportEncoding::Json),
            (&["application/json"], ExportEncoding::Json),
            (&["text/html, application/*;q=0.1"], ExportEncoding::Json),
            (
                &["application/json, application/x-protobuf"],
                ExportEncoding::Json,
            ),
            (&["application/x-protobuf"], ExportEncoding::Protobuf),
            (&["Application/X-Protobuf; q=0.2"], ExportEncoding::Protobuf),
            (
                &["application/json;q=0.5", "application/x-protobuf"],
                ExportEncoding::Protobuf,
            ),
            (
                &["application/json;q=0, application/x-protobuf;q=0.1, */*"],
                ExportEncoding::Protobuf,
            ),
            // The narrower range decides, in any order.
            (
                &["application/*;q=0.1, application/x-protobuf;q=0.5, */*"],
                ExportEncoding::Protobuf,
            ),
            (
                &["*/*, application/x-protobuf;q=0.5", "application/*;q=0.1"],
                ExportEncoding::Protobuf,
            ),
            (
                &["*/*;q=0.1, application/x-protobuf;q=0.5, application/*"],
                ExportEncoding::Json,
            ),
            (
                &["application/x-protobuf, application/json, application/json;q=0.1"],
                ExportEncoding::Json,
            ),
        ] {
            let found = asked(Some("otlp"), accept).expect("one of the two");
            assert_eq!(found, Some(form), "{accept:?}");
        }
        for accept in [
            "text/html",
            "application/json;q=0",
            "application/x-protobuf;Q=0",
            "application/x-protobuf;q=inf",
            "application/json;q=nan",
        ] {
            let refused = asked(Some("otlp"), &[accept]);
            assert!(
                matches!(refused, Err(QueryError::NotAcceptable)),
                "{accept}"
            );
        }
    }

    #[test]
    fn protobuf_is_otlp_without_a_parameter_and_all_else_is_our_own_json() {
        let protobuf = asked(None, &["application/x-protobuf"]);
        assert_eq!(
            protobuf.expect("it can be had"),
            Some(ExportEncoding::Protobuf)
        );
        for accept in [&[][..], &["text/html"], &["*/*"], &["application/json"]] {
            let plain = asked(None, accept).expect("Accept is no reason to refuse");
            assert_eq!(plain, None, "{accept:?}");
        }
        let error = asked(Some("xml"), &[]).expect_err("unknown");
        assert_eq!(error.to_string(), "format must be otlp");
    }
}
