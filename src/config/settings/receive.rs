//! Settings of ingestion.
//!
//! **Invariant:** every size that a client chooses has a limit, either a setting here or a constant in `receive`.

use secrecy::SecretString;

use crate::config::settings::{Secrecy, Setting, put};
use crate::config::value::{
    auto, count, count_or_off, is_off, list, memory, one_of, or_off, origins, switch, timeout,
};
use crate::event::Signal;
use crate::receive::AuthTokens;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "auth_tokens",
        "TOKENS",
        "",
        "Tokens, separated by commas, of which `Authorization: Bearer …` must hold one. Not set: no token is needed",
        |raw, text| put(&mut raw.receive.auth_tokens, tokens(text)),
    )
    .secrecy(Secrecy::Secret),
    Setting::new(
        "cors_origins",
        "ORIGINS",
        "",
        "Origins, separated by commas, whose web pages may send events; all others are refused",
        |raw, text| put(&mut raw.receive.cors_origins, origins(text)),
    ),
    Setting::new(
        "hosts",
        "NAMES",
        "",
        "Names, separated by commas, under which /query and /traces are served on a loopback address without auth_tokens, beside `localhost` and IP addresses",
        |raw, text| put(&mut raw.receive.hosts, host_names(text)),
    ),
    Setting::new(
        "inflight_bytes",
        "SIZE",
        "auto",
        "Memory of all requests in flight together. `auto`: a quarter of memory_bytes, at most 256MiB",
        |raw, text| put(&mut raw.receive.inflight_bytes, auto(text, memory)),
    ),
    Setting::new(
        "otlp_wire_bytes",
        "SIZE",
        "64MiB",
        "The largest OTLP request as sent; every body limit is lowered to half of inflight_bytes",
        |raw, text| put(&mut raw.receive.otlp_wire_bytes, memory(text)),
    ),
    Setting::new(
        "otlp_decoded_bytes",
        "SIZE",
        "64MiB",
        "The largest OTLP request once decompressed",
        |raw, text| put(&mut raw.receive.otlp_decoded_bytes, memory(text)),
    ),
    Setting::new(
        "ingest_wire_bytes",
        "SIZE",
        "20MiB",
        "The largest /ingest body as sent",
        |raw, text| put(&mut raw.receive.ingest_wire_bytes, memory(text)),
    ),
    Setting::new(
        "ingest_decoded_bytes",
        "SIZE",
        "64MiB",
        "The largest /ingest body once decompressed",
        |raw, text| put(&mut raw.receive.ingest_decoded_bytes, memory(text)),
    ),
    Setting::new(
        "max_events",
        "NUMBER",
        "50000",
        "The most events in one /ingest request",
        |raw, text| put(&mut raw.receive.decode.events, count(text, 1)),
    ),
    Setting::new(
        "max_attributes",
        "NUMBER|off",
        "off",
        "The most attributes of one item; the others are cut, counted and reported to the client",
        |raw, text| put(&mut raw.receive.decode.attributes, count_or_off(text)),
    ),
    Setting::new(
        "max_value_bytes",
        "NUMBER|off",
        "off",
        "The most bytes of one attribute's value; the rest is cut, counted and reported to the client",
        |raw, text| put(&mut raw.receive.decode.value_bytes, count_or_off(text)),
    ),
    Setting::new(
        "strict_otlp_json",
        "true|false",
        "false",
        "`true`: OTLP/JSON with lowerCamelCase keys only. `false`: snake_case is accepted too",
        |raw, text| put(&mut raw.receive.decode.strict_json, switch(text)),
    ),
    Setting::new(
        "duplicate_window",
        "DURATION|off",
        "10m",
        "Time for which an accepted request is remembered: an identical one, a client's retry, gets the same answer and is not stored again",
        |raw, text| put(&mut raw.receive.duplicate_window, or_off(text, timeout)),
    ),
    Setting::new(
        "duplicate_signals",
        "SIGNALS",
        "traces",
        "OTLP signals whose retries are identified by the request's bytes: traces, logs (where every record has a time), metrics, or off",
        |raw, text| put(&mut raw.receive.duplicate_signals, otlp_signals(text)),
    ),
    Setting::new(
        "header_timeout",
        "DURATION",
        "10s",
        "Time limit from the first byte of a request to the end of its headers",
        |raw, text| put(&mut raw.receive.header_timeout, timeout(text)),
    ),
    Setting::new(
        "body_timeout",
        "DURATION",
        "30s",
        "Time limit for a whole body",
        |raw, text| put(&mut raw.receive.body_timeout, timeout(text)),
    ),
    Setting::new(
        "handling_timeout",
        "DURATION",
        "8s",
        "Time limit from the end of the body to the answer",
        |raw, text| put(&mut raw.receive.handling_timeout, timeout(text)),
    ),
    Setting::new(
        "keep_alive_idle",
        "DURATION",
        "180s",
        "Time after which a connection without requests is closed. The default is above the 60 s at which SDKs send, and the 90 s after which Go's client closes it",
        |raw, text| put(&mut raw.receive.keep_alive_idle, timeout(text)),
    ),
    Setting::new(
        "connection_age",
        "DURATION",
        "5m",
        "Age at which a connection is closed gracefully, plus or minus a fifth, so that clients spread over new instances",
        |raw, text| put(&mut raw.receive.connection_age, timeout(text)),
    ),
    Setting::new(
        "connections",
        "NUMBER",
        "2048",
        "The most connections at once. At the limit the main port serves only /health and /metrics, and the connection that is idle longest is closed",
        |raw, text| put(&mut raw.receive.connections, count(text, 1)),
    ),
];

fn otlp_signals(text: &str) -> Result<Vec<Signal>, String> {
    const NAMES: [(&str, Signal); 3] = [
        ("traces", Signal::Span),
        ("logs", Signal::Log),
        ("metrics", Signal::Metric),
    ];
    match text {
        text if is_off(text) => Ok(Vec::new()),
        _ => list(text).map(|name| one_of(name, &NAMES)).collect(),
    }
}

/// Parses names as in `Host`, without port; returns them in lower case.
fn host_names(text: &str) -> Result<Vec<String>, String> {
    let is_of_a_name =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    list(text)
        .map(|name| {
            if !name.is_empty() && name.bytes().all(is_of_a_name) {
                Ok(name.trim_end_matches('.').to_ascii_lowercase())
            } else {
                Err(
                    "holds a part that is not a host's name: write telemetry.example, without scheme or port"
                        .to_owned(),
                )
            }
        })
        .collect()
}

/// Parses tokens, of visible ASCII only: a header can carry it, and a person can paste it.
fn tokens(text: &str) -> Result<AuthTokens, String> {
    let tokens: Vec<_> = list(text)
        .map(|token| {
            if token.bytes().all(|byte| byte.is_ascii_graphic()) {
                Ok(SecretString::from(token))
            } else {
                Err("holds a token with a space or a character outside ASCII".to_owned())
            }
        })
        .collect::<Result<_, _>>()?;
    Ok(AuthTokens::new(&tokens))
}
