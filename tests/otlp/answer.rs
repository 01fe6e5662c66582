//! An answer, read as OTLP and gRPC define it.
//!
//! **Invariant:** an answer that does not have the form of its protocol is a failure, with the observation.

use std::io::Read as _;

use prost::Message as _;
use serde_json::Value as Json;

use crate::case::{Case, Way};
use crate::status::{Status, code_name, unbase64};
use crate::wire::Reply;

/// The result of a request, as the server answered it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub reply: Reply,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// HTTP 200, gRPC OK.
    Success {
        /// Only if the field is set.
        partial: Option<Partial>,
    },
    Refused(Refusal),
}

#[derive(Clone, Debug)]
pub(crate) struct Partial {
    pub rejected: i64,
    pub message: String,
}

#[derive(Debug)]
pub(crate) enum Refusal {
    Http(u16),
    Grpc(u32, Status),
}

/// `Export…ServiceResponse`, whose field has one shape for all signals.
#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<ExportPartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportPartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

impl Answer {
    /// # Errors
    /// If the body of a success, or gRPC's status, cannot be read.
    pub(crate) fn read(reply: Reply, case: Case) -> Result<Self, String> {
        let outcome = match case.way {
            Way::Grpc => read_grpc(&reply)?,
            Way::Protobuf | Way::Json if reply.status != 200 => {
                Outcome::Refused(Refusal::Http(reply.status))
            }
            Way::Protobuf => Outcome::Success {
                partial: read_protobuf(&reply.body)?,
            },
            Way::Json => Outcome::Success {
                partial: read_json(&reply.body, case)?,
            },
        };
        Ok(Self { reply, outcome })
    }

    /// gRPC's status alone, ignoring the message.
    ///
    /// # Errors
    /// If there is no status.
    pub(crate) fn read_status(reply: &Reply) -> Result<Outcome, String> {
        let (code, status) = read_grpc_status(reply)?;
        Ok(match code {
            0 => Outcome::Success { partial: None },
            code => Outcome::Refused(Refusal::Grpc(code, status)),
        })
    }

    /// True if every item was accepted, with or without a warning.
    pub(crate) fn took_all(&self) -> bool {
        match &self.outcome {
            Outcome::Success { partial } => partial.as_ref().is_none_or(|told| told.rejected == 0),
            Outcome::Refused(_) => false,
        }
    }

    /// The field, if a success has it set.
    pub(crate) fn partial(&self) -> Option<&Partial> {
        match &self.outcome {
            Outcome::Success { partial } => partial.as_ref(),
            Outcome::Refused(_) => None,
        }
    }

    /// The number of items that were rejected in an accepted request.
    pub(crate) fn rejected(&self) -> Option<i64> {
        match &self.outcome {
            Outcome::Success { partial } => Some(partial.as_ref().map_or(0, |told| told.rejected)),
            Outcome::Refused(_) => None,
        }
    }

    /// True if the request was refused as bad data: HTTP 400, gRPC `INVALID_ARGUMENT`.
    pub(crate) fn is_bad_data(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Refused(Refusal::Http(400) | Refusal::Grpc(3, _))
        )
    }

    /// True if a client would send the request again, by OTLP's two tables. `RESOURCE_EXHAUSTED` asks for it by
    /// `RetryInfo`.
    pub(crate) fn is_retryable(&self) -> bool {
        match &self.outcome {
            Outcome::Refused(Refusal::Http(429 | 502 | 503 | 504)) => true,
            Outcome::Refused(Refusal::Grpc(8, status)) => status.retry_info().is_some(),
            Outcome::Refused(Refusal::Grpc(code, _)) => matches!(code, 1 | 4 | 10 | 11 | 14 | 15),
            Outcome::Success { .. } | Outcome::Refused(Refusal::Http(_)) => false,
        }
    }

    /// A short description.
    pub(crate) fn seen(&self) -> String {
        match &self.outcome {
            Outcome::Success { partial: None } => "full success".to_owned(),
            Outcome::Success {
                partial: Some(Partial { rejected, message }),
            } => format!(
                "success, {rejected} rejected, message {:?}",
                shortened(message)
            ),
            Outcome::Refused(Refusal::Http(_)) => self.reply.seen(),
            Outcome::Refused(Refusal::Grpc(code, status)) => {
                format!("{}: {}", code_name(*code), shortened(&status.message))
            }
        }
    }
}

impl Reply {
    /// A short description of an HTTP answer.
    pub(crate) fn seen(&self) -> String {
        let told = match Status::of_body(self) {
            Ok(status) if self.status >= 400 => status.message,
            _ => String::from_utf8_lossy(&self.body).into_owned(),
        };
        format!("HTTP {}: {}", self.status, shortened(&told))
    }
}

fn read_protobuf(body: &[u8]) -> Result<Option<Partial>, String> {
    let response = ExportResponse::decode(body)
        .map_err(|error| format!("the answer is no Export response in protobuf: {error}"))?;
    Ok(response.partial_success.map(|partial| Partial {
        rejected: partial.rejected,
        message: partial.error_message,
    }))
}

fn read_json(body: &[u8], case: Case) -> Result<Option<Partial>, String> {
    let wrong = || {
        let shown = shortened(&String::from_utf8_lossy(body));
        format!("the answer is no Export response in JSON: {shown}")
    };
    let json: Json = serde_json::from_slice(body).map_err(|_| wrong())?;
    let Some(partial) = json.as_object().ok_or_else(wrong)?.get("partialSuccess") else {
        return Ok(None);
    };
    // An incorrect number is judged by the rule about numbers.
    let rejected = match partial.get(case.signal.rejected()) {
        None => 0,
        Some(Json::String(text)) => text.parse().map_err(|_| wrong())?,
        Some(number) => number.as_i64().ok_or_else(wrong)?,
    };
    let message = partial.get("errorMessage").and_then(Json::as_str);
    Ok(Some(Partial {
        rejected,
        message: message.unwrap_or_default().to_owned(),
    }))
}

fn read_grpc(reply: &Reply) -> Result<Outcome, String> {
    let (code, status) = read_grpc_status(reply)?;
    if code != 0 {
        return Ok(Outcome::Refused(Refusal::Grpc(code, status)));
    }
    let Some(([compressed, length @ ..], message)) = reply.body.split_first_chunk::<5>() else {
        return Err("gRPC OK without a message".to_owned());
    };
    if usize::try_from(u32::from_be_bytes(*length)) != Ok(message.len()) {
        return Err("gRPC OK with a message of another length than it says".to_owned());
    }
    let plain = match compressed {
        0 => message.to_vec(),
        _ => decompressed(message, reply.header("grpc-encoding").unwrap_or("identity"))?,
    };
    Ok(Outcome::Success {
        partial: read_protobuf(&plain)?,
    })
}

/// gRPC's servers may compress as the client did.
fn decompressed(message: &[u8], coding: &str) -> Result<Vec<u8>, String> {
    const MOST_BYTES: u64 = 4 << 20;
    let mut plain = Vec::new();
    let read = match coding {
        "gzip" => flate2::read::MultiGzDecoder::new(message)
            .take(MOST_BYTES)
            .read_to_end(&mut plain),
        "zstd" => zstd::Decoder::new(message)
            .and_then(|decoder| decoder.take(MOST_BYTES).read_to_end(&mut plain)),
        _ => return Err(format!("an answer compressed with {coding:?}")),
    };
    read.map_err(|error| format!("an answer that is no {coding}: {error}"))?;
    Ok(plain)
}

/// gRPC over HTTP/2, "Responses": the status is in the trailers, or in the headers if there is nothing else.
fn read_grpc_status(reply: &Reply) -> Result<(u32, Status), String> {
    let last = if reply.trailers.contains_key("grpc-status") {
        &reply.trailers
    } else {
        &reply.headers
    };
    let value = |name: &str| last.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = value("grpc-status").and_then(|code| code.parse().ok()) else {
        return Err(format!("HTTP {} without grpc-status", reply.status));
    };
    let content_type = reply.header("content-type").unwrap_or("none");
    if reply.status != 200 || !content_type.starts_with("application/grpc") {
        return Err(format!(
            "grpc-status with HTTP {}, content type {content_type}",
            reply.status
        ));
    }
    let mut status = match value("grpc-status-details-bin") {
        Some(details) => Status::decode(&*unbase64(details)?)
            .map_err(|error| format!("grpc-status-details-bin holds no Status: {error}"))?,
        None => Status::default(),
    };
    value("grpc-message")
        .unwrap_or_default()
        .clone_into(&mut status.message);
    Ok((code, status))
}

/// At most a hundred characters, none of which moves the cursor.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 100;
    let mut shown = String::new();
    for (index, letter) in text.trim().chars().enumerate() {
        if index == SHOWN {
            shown.push('…');
            break;
        }
        match letter {
            _ if letter.is_control() => shown.extend(letter.escape_default()),
            _ => shown.push(letter),
        }
    }
    shown
}
