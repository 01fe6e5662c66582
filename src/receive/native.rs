//! `POST /ingest`: native events as JSON or NDJSON.
//!
//! **Invariant:** without `?partial=true` a batch is one unit: all of it is stored or none.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;
use serde_json::json;
use tokio::time::timeout;

use super::answers::{self, Form};
use super::identity::Key;
use super::media::{self, Media};
use super::take::{Taken, Wanted};
use super::tally::{Intake, Tally};
use super::{Endpoint, Receiver, body};
use crate::error::{Error, shown};
use crate::event::{Encoding, Signal};

/// The longest that `?wait=stored` waits for the database.
const WAIT_STORED: Duration = Duration::from_secs(5);

pub(super) fn routes(receiver: &Receiver) -> Router {
    let endpoint = Endpoint::new(receiver, Intake::Native, Signal::Event);
    Router::new()
        .route("/ingest", any(ingest))
        .route("/ingest/", any(ingest))
        .with_state(Arc::new(endpoint))
}

async fn ingest(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let admission = &endpoint.receiver.stage.admission;
    if let Some(answer) = admission.preflight(&parts) {
        return answer;
    }
    let form = Form::of(parts.uri.path(), &parts.headers);
    let mut tally = Tally::new(&endpoint.counters);
    let mut answer = match take(&endpoint.receiver, &parts, body, &mut tally).await {
        Ok((taken, stored)) => {
            tally.taken(&taken.checked);
            answers::success(form, success(&taken, stored, form))
        }
        Err(error) => {
            tally.failed(&error);
            answers::error(&error, form)
        }
    };
    admission.share(&parts.headers, answer.headers_mut());
    answer
}

async fn take(
    receiver: &Receiver,
    parts: &Parts,
    body: Body,
    tally: &mut Tally,
) -> Result<(Taken, Option<bool>), Error> {
    let (wanted, wait) = match read_head(receiver, parts) {
        Ok(head) => head,
        Err(error) => {
            let limits = receiver.body_limits(Signal::Event);
            body::discard(body, &parts.headers, &limits).await;
            return Err(error);
        }
    };
    let taken = receiver.take(body, wanted, tally).await?;
    let stored = match (wait, taken.position) {
        (Wait::Synced, _) => None,
        (Wait::Stored, None) => Some(true),
        (Wait::Stored, Some(position)) => {
            let stored = receiver.stage.progress.stored(position);
            Some(timeout(WAIT_STORED, stored).await.is_ok())
        }
    };
    Ok((taken, stored))
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Synced,
    /// `?wait=stored`.
    Stored,
}

fn read_head(receiver: &Receiver, parts: &Parts) -> Result<(Wanted, Wait), Error> {
    if parts.method != Method::POST {
        return Err(Error::Method { allow: "POST" });
    }
    receiver.stage.admission.check(&parts.headers)?;
    let encoding = match Media::of(&parts.headers) {
        Media::Json | Media::Text | Media::Form | Media::Missing => Encoding::Json,
        Media::NdJson => Encoding::NdJson,
        Media::Protobuf | Media::Other => {
            return Err(Error::ContentType {
                takes: "application/json or application/x-ndjson",
            });
        }
    };
    let (partial, wait) = parameters(parts.uri.query().unwrap_or_default())?;
    let wanted = Wanted {
        signal: Signal::Event,
        encoding,
        content_encoding: media::content_encoding(&parts.headers)?,
        partial,
        key: Key::of(&parts.headers)?,
    };
    Ok((wanted, wait))
}

/// `partial=true|false` and `wait=stored`, each at most once, and nothing else.
fn parameters(query: &str) -> Result<(bool, Wait), Error> {
    let (mut partial, mut wait) = (None, None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = shown(parameter.split('=').next().unwrap_or_default());
        let twice = match parameter {
            "partial=true" => partial.replace(true).is_some(),
            "partial=false" => partial.replace(false).is_some(),
            "wait=stored" => wait.replace(Wait::Stored).is_some(),
            _ => {
                let reason = format!(
                    "\"{}\" is no parameter of /ingest; partial=true, partial=false and wait=stored are",
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
    Ok((partial.unwrap_or(false), wait.unwrap_or(Wait::Synced)))
}

/// `{"accepted": n, "rejected": 0}`, with `problems` when some were rejected, with `stored` when that was waited for.
fn success(taken: &Taken, stored: Option<bool>, form: Form) -> String {
    let checked = &taken.checked;
    let mut body = json!({ "accepted": checked.accepted, "rejected": checked.rejected });
    if checked.rejected > 0 {
        body["problems"] = answers::problems(&checked.rejections, form);
    }
    if let Some(stored) = stored {
        body["stored"] = json!(stored);
    }
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::{Wait, parameters};

    #[test]
    fn each_parameter_is_known_and_given_once() {
        assert_eq!(parameters("").unwrap(), (false, Wait::Synced));
        let both = parameters("wait=stored&partial=true").unwrap();
        assert_eq!(both, (true, Wait::Stored));
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
