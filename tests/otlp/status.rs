//! `google.rpc.Status` with its details, which is the body of OTLP's errors and is sent in gRPC's trailers.
//!
//! **Invariant:** a field that `Status` does not have makes the object invalid: an object with a message alone is not
//! yet a `Status`.

use prost::Message as _;
use serde_json::Value as Json;

use crate::answer::shortened;
use crate::wire::Reply;

/// `google.rpc.Status` (google/rpc/status.proto).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// google/protobuf/any.proto.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo` (google/rpc/error_details.proto).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<Delay>,
}

/// google/protobuf/duration.proto.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Delay {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Status {
    pub(crate) fn detail(&self, name: &str) -> Option<&Any> {
        let is_it = |any: &&Any| any.type_url.rsplit('/').next() == Some(name);
        self.details.iter().find(is_it)
    }

    pub(crate) fn retry_info(&self) -> Option<RetryInfo> {
        RetryInfo::decode(&*self.detail("google.rpc.RetryInfo")?.value).ok()
    }

    /// As an HTTP answer's body holds it, in the encoding that its content type names.
    ///
    /// # Errors
    /// If the body is not a `Status` in that encoding.
    pub(crate) fn of_body(reply: &Reply) -> Result<Self, String> {
        let content_type = reply.header("content-type").unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let shown = || shortened(&String::from_utf8_lossy(&reply.body));
        match essence {
            "application/x-protobuf" => Self::decode(&*reply.body)
                .map_err(|error| format!("the body is no protobuf Status ({error}): {}", shown())),
            "application/json" => serde_json::from_slice(&reply.body)
                .ok()
                .and_then(|json| Self::of_json(&json))
                .ok_or_else(|| format!("the body is no Status in JSON: {}", shown())),
            _ => Err(format!(
                "HTTP {} with a body of type {content_type:?}: {}",
                reply.status,
                shown()
            )),
        }
    }

    /// Fields left out have their defaults.
    fn of_json(json: &Json) -> Option<Self> {
        let object = json.as_object()?;
        let known = ["code", "message", "details"];
        if !object.keys().all(|key| known.contains(&key.as_str())) {
            return None;
        }
        let code = object.get("code").map_or(Some(0), Json::as_i64)?;
        let message = object.get("message").map_or(Some(""), Json::as_str)?;
        let none = Vec::new();
        let details = object.get("details").map_or(Some(&none), Json::as_array)?;
        let details = details.iter().map(|detail| {
            Some(Any {
                type_url: detail.get("@type")?.as_str()?.to_owned(),
                value: detail.to_string().into_bytes(),
            })
        });
        Some(Self {
            code: i32::try_from(code).ok()?,
            message: message.to_owned(),
            details: details.collect::<Option<_>>()?,
        })
    }
}

/// Binary metadata, padded or not.
pub(crate) fn unbase64(text: &str) -> Result<Vec<u8>, String> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|error| format!("binary metadata is no base64: {error}"))
}

/// grpc/doc/statuscodes.md.
pub(crate) fn code_name(code: u32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let named = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    named.map_or_else(|| format!("code {code}"), ToString::to_string)
}
