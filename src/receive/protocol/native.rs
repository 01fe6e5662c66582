//! `POST /ingest`: native events as JSON or NDJSON.
//!
//! **Invariant:** without `?partial=true`, all events of a batch are accepted or none.

use std::sync::Arc;

use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use serde_json::json;

use crate::error::Error;
use crate::event::{Encoding, Signal};
use crate::receive::Receiver;
use crate::receive::content_type::{self, MediaType};
use crate::receive::ingest::dedup_key::IdempotencyKey;
use crate::receive::ingest::pipeline::{Framing, IngestOutcome, IngestRequest, WaitFor};
use crate::receive::ingest::request_metrics::IngestProtocol;
use crate::receive::protocol::endpoint::{Endpoint, Protocol, serve};
use crate::receive::response::{self, ResponseFormat};
use crate::text::shown;

/// `POST /ingest`.
pub(crate) fn ingest(receiver: &Arc<Receiver>) -> MethodRouter {
    let protocol = Protocol {
        intake: IngestProtocol::Native,
        read_head,
        success,
    };
    any(serve).with_state(Endpoint::new(receiver, protocol, Signal::Event))
}

fn read_head(endpoint: &Endpoint, parts: &Parts) -> Result<IngestRequest, Error> {
    let encoding = match MediaType::of(&parts.headers) {
        MediaType::Json | MediaType::Text | MediaType::Form | MediaType::Missing => Encoding::Json,
        MediaType::NdJson => Encoding::NdJson,
        MediaType::Protobuf | MediaType::Grpc | MediaType::Other => {
            return Err(Error::ContentType {
                takes: "application/json or application/x-ndjson",
            });
        }
    };
    let (partial, wait) = parameters(parts.uri.query().unwrap_or_default())?;
    Ok(IngestRequest {
        signal: endpoint.signal,
        encoding,
        content_encoding: content_type::content_encoding(&parts.headers, &CONTENT_ENCODING)?,
        framing: Framing::Whole,
        partial,
        key: IdempotencyKey::of(&parts.headers)?,
        wait,
        deadline: None,
    })
}

/// Reads `partial=true|false` and `wait=stored`, each at most once.
///
/// # Errors
/// [`Error::Parameter`] for any other parameter or value, and for a repeated one.
fn parameters(query: &str) -> Result<(bool, WaitFor), Error> {
    let (mut partial, mut wait) = (None, None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = shown(parameter.split('=').next().unwrap_or_default());
        let twice = match parameter {
            "partial=true" => partial.replace(true).is_some(),
            "partial=false" => partial.replace(false).is_some(),
            "wait=stored" => wait.replace(WaitFor::Stored).is_some(),
            _ => {
                let reason = format!(
                    "\"{}\" is not a parameter of /ingest; partial=true, partial=false and wait=stored are",
                    shown(parameter)
                );
                return Err(Error::Parameter { name, reason });
            }
        };
        if twice {
            let reason = format!("{name} is given twice");
            return Err(Error::Parameter { name, reason });
        }
    }
    Ok((partial.unwrap_or(false), wait.unwrap_or(WaitFor::Synced)))
}

/// Answers `{"accepted": n, "rejected": 0}`, with `problems` if events were rejected, with `unknown` and a `message` if
/// events had unknown members, and with `stored` if the client waited for that.
fn success(_: &Endpoint, form: ResponseFormat, outcome: &IngestOutcome) -> Response {
    let checked = &outcome.checked;
    let mut body = json!({ "accepted": checked.accepted, "rejected": checked.rejected });
    if checked.rejected > 0 {
        body["problems"] = response::problems(&checked.rejections, form);
    }
    if !checked.unknown.names.is_empty() {
        response::add_unknown(&mut body, &checked.unknown, checked.rejected);
    }
    if let Some(stored) = outcome.stored {
        body["stored"] = stored.into();
    }
    response::success(form, body.to_string())
}

#[cfg(test)]
mod tests {
    use super::{WaitFor, parameters};

    #[test]
    fn each_parameter_is_known_and_given_once() {
        assert_eq!(parameters("").unwrap(), (false, WaitFor::Synced));
        let both = parameters("wait=stored&partial=true").unwrap();
        assert_eq!(both, (true, WaitFor::Stored));
        for refused in [
            "partial=yes",
            "partial",
            "wait=synced",
            "partial=true&partial=false",
            "wait=stored&wait=stored",
            "Partial=true",
            "limit=3",
        ] {
            assert!(parameters(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_strange_parameter_is_echoed_short_and_escaped() {
        let error = parameters(&"\u{1b}".repeat(1000)).unwrap_err().to_string();
        assert!(error.len() < 200 && !error.contains('\u{1b}'), "{error}");
    }
}
