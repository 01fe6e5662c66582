//! Admission of requests by browser origin and bearer token, and the answers to CORS preflights.
//!
//! **Invariant:** nothing of a body is read before its sender is admitted.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use crate::error::Error;
use crate::receive::auth::AuthTokens;
use crate::receive::response::{self, ResponseFormat};
use crate::receive::{Options, local_host};

/// Maximum length, in bytes, of `Access-Control-Request-Headers`; a longer list is not echoed in the preflight's
/// answer.
const PREFLIGHT_HEADERS_BYTES: usize = 1024;

/// The accepted tokens and the listed origins.
#[derive(Clone)]
pub(crate) struct Admission {
    tokens: AuthTokens,
    origins: Vec<String>,
}

impl Admission {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            tokens: options.auth_tokens.clone(),
            origins: options.cors_origins.clone(),
        }
    }

    /// Checks the origin first, then the bearer token.
    ///
    /// # Errors
    /// [`Error::ForeignOrigin`] if the request has an `Origin` that is not on the list, or more than one.
    /// [`Error::Unauthenticated`] if tokens are set and the request has none of them.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Error> {
        if headers.contains_key(ORIGIN) && self.origin(headers).is_none() {
            return Err(Error::ForeignOrigin);
        }
        self.authenticate(headers)
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<(), Error> {
        let sent = headers.get(AUTHORIZATION).and_then(bearer);
        if self.tokens.is_empty() || self.tokens.admit(sent.unwrap_or_default()) {
            return Ok(());
        }
        Err(Error::Unauthenticated)
    }

    /// Returns the request's origin if it is the only one and on the list.
    fn origin<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let (origin, None) = (origins.next()?, origins.next()) else {
            return None;
        };
        let listed = |entry: &String| entry == "*" || entry.as_bytes() == origin.as_bytes();
        self.origins.iter().any(listed).then_some(origin)
    }

    /// Answers a CORS preflight (Fetch, "CORS-preflight request"), which browsers send without a token.
    ///
    /// Returns `None` if the request is not a preflight, or if its origin is not on the list.
    pub(crate) fn preflight(&self, parts: &Parts) -> Option<Response> {
        let asked = parts.method == Method::OPTIONS
            && parts.headers.contains_key(ORIGIN)
            && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !asked || self.origin(&parts.headers).is_none() {
            return None;
        }
        let allowed = [
            (ACCESS_CONTROL_ALLOW_METHODS, "POST"),
            (ACCESS_CONTROL_MAX_AGE, "3600"),
        ];
        let mut answer = (StatusCode::NO_CONTENT, allowed).into_response();
        let headers = answer.headers_mut();
        let names = parts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(names) = names.filter(|names| names.len() <= PREFLIGHT_HEADERS_BYTES) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        self.share(&parts.headers, headers);
        Some(answer)
    }

    /// Adds the CORS headers that let a page of a listed origin read the answer.
    pub(crate) fn share(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        answer.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.origin(request) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static("Retry-After, Ruvvector-Outcome"),
            );
        }
    }
}

/// Returns the token of `Bearer <token>`; the scheme is case-insensitive (RFC 9110, section 11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(token.trim_ascii())
}

/// Requires a bearer token on all routes of `router`, the read API.
///
/// If no token is set, a request that reaches a loopback address under a name that is not this machine's own is refused
/// instead.
pub fn authenticated(router: Router, options: &Options) -> Router {
    if options.auth_tokens.is_empty() {
        let hosts: Arc<[String]> = options.hosts.clone().into();
        return router.route_layer(from_fn_with_state(hosts, local_host::own_hosts_only));
    }
    router.route_layer(from_fn_with_state(Admission::new(options), authenticate))
}

async fn authenticate(
    State(admission): State<Admission>,
    request: Request,
    next: Next,
) -> Response {
    match admission.authenticate(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => response::error(&error, ResponseFormat::NATIVE),
    }
}

#[cfg(test)]
mod tests {
    use super::{AUTHORIZATION, Admission, AuthTokens, HeaderMap, HeaderValue, ORIGIN, Options};

    fn admission(tokens: &[&str], origins: &[&str]) -> Admission {
        Admission::new(&Options {
            auth_tokens: AuthTokens::new(
                &tokens.iter().map(|&token| token.into()).collect::<Vec<_>>(),
            ),
            cors_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            ..Options::default()
        })
    }

    #[test]
    fn only_a_whole_token_of_ours_is_admitted() {
        let admission = admission(&["one", "two"], &[]);
        let admitted = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            admission.check(&headers).is_ok()
        };
        assert!(admitted("Bearer one"));
        assert!(admitted("bearer two"));
        for refused in [
            "Bearer on",
            "Bearer onee",
            "Bearer ",
            "Bearer",
            "Basic one",
            "one",
            "",
        ] {
            assert!(!admitted(refused), "{refused:?}");
        }
        assert!(admission.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn an_origin_must_be_on_the_list_and_alone() {
        let admission = admission(&[], &["https://a.example"]);
        let admitted = |origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            }
            admission.check(&headers).is_ok()
        };
        assert!(admitted(&[]));
        assert!(admitted(&["https://a.example"]));
        assert!(!admitted(&["https://b.example"]));
        assert!(!admitted(&["null"]));
        assert!(!admitted(&["https://a.example", "https://b.example"]));
    }
}
