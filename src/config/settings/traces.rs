//! Settings of the service's own traces.
//!
//! **Invariant:** without an endpoint nothing is traced or exported, independently of the other settings.

use axum::http::{HeaderName, Uri};
use secrecy::SecretString;

use crate::config::settings::{Secrecy, Setting, put};
use crate::config::value::{list, or_off};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "traces_endpoint",
        "URL or off",
        "off",
        "Endpoint for traces of the service's own work, by OTLP over gRPC: http://host:4317, or https:// with the system's root certificates",
        |raw, text| put(&mut raw.traces_endpoint, or_off(text, endpoint)),
    ),
    Setting::new(
        "traces_sample_ratio",
        "RATIO",
        "0.01",
        "Share of requests that are traced, 0 to 1, if the caller's traceparent does not decide it",
        |raw, text| put(&mut raw.traces_sample_ratio, ratio(text)),
    ),
    Setting::new(
        "traces_headers",
        "HEADERS",
        "",
        "Headers of those exports, as authorization=Bearer …, separated by commas",
        |raw, text| put(&mut raw.traces_headers, headers(text)),
    )
    .secrecy(Secrecy::Secret),
];

/// Parses `http://host:port` or `https://host:port`, without a path: gRPC defines the paths.
fn endpoint(text: &str) -> Result<String, String> {
    let wrong = || "is not an endpoint such as http://collector:4317".to_owned();
    let bare = text.strip_suffix('/').unwrap_or(text);
    let uri: Uri = bare.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        return Err("holds a password; put it into traces_headers".to_owned());
    }
    match uri.scheme_str() {
        Some("http" | "https") if uri.path() == "/" && uri.query().is_none() => Ok(bare.to_owned()),
        _ => Err(wrong()),
    }
}

/// Parses a number from 0 to 1.
fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("is not a number from 0 to 1".to_owned()),
    }
}

/// Parses `name=value` pairs. Headers that gRPC sets itself are refused.
fn headers(text: &str) -> Result<Vec<(String, SecretString)>, String> {
    const TAKEN: [&str; 5] = [
        "content-type",
        "te",
        "user-agent",
        "traceparent",
        "tracestate",
    ];
    list(text)
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let value = value.trim();
            let plain = !value.is_empty() && value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            let name = name.as_str();
            let ours = TAKEN.contains(&name) || name.starts_with("grpc-") || name.ends_with("-bin");
            (plain && !ours).then(|| (name.to_owned(), value.into()))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| {
            "is not a list of headers such as authorization=Bearer …,x-team=shop, printable, none that gRPC sets itself"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::{endpoint, headers, ratio};

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_a_port() {
        for text in [
            "http://collector:4317",
            "https://traces.example.com",
            "http://[::1]:4317",
        ] {
            assert_eq!(endpoint(text).as_deref(), Ok(text));
        }
        assert_eq!(
            endpoint("http://collector:4317/").as_deref(),
            Ok("http://collector:4317")
        );
        for text in [
            "",
            "collector:4317",
            "http://",
            "grpc://collector:4317",
            "http://collector:4317/v1/traces",
            "http://collector:4317?x=1",
            "http://user:hunter2@collector:4317",
        ] {
            let error = endpoint(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{text}");
        }
        for text in ["0", "1", "0.01", "1e-3"] {
            assert!(ratio(text).is_ok(), "{text}");
        }
        for text in ["", "-0.1", "1.1", "NaN", "1 %", "inf"] {
            assert!(ratio(text).is_err(), "{text}");
        }
    }

    #[test]
    fn headers_are_names_and_values_and_none_of_grpcs_own() {
        let list = headers("Authorization=Bearer a=b, x-team=shop").unwrap();
        let names: Vec<_> = list.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["authorization", "x-team"]);
        assert_eq!(
            secrecy::ExposeSecret::expose_secret(&list[0].1),
            "Bearer a=b"
        );
        for text in [
            "authorization",
            "=x",
            "a b=c",
            "x-team=",
            "traceparent=00",
            "grpc-timeout=1S",
            "te=trailers",
            "x-y=z\u{e9}",
        ] {
            assert!(headers(text).is_err(), "{text}");
        }
    }
}
