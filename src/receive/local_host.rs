//! Checks of a request's host and framing, from its head.
//!
//! **Invariant:** if no token is required, a loopback address is readable only under a host name of this machine. A
//! page of another site whose name points to 127.0.0.1 reads nothing (DNS rebinding).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Version};
use axum::middleware::Next;
use axum::response::Response;

use crate::error::Error;
use crate::receive::response::{self, ResponseFormat};
use crate::text::shown;

/// This process's address that the client of a request connected to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalAddress(pub(crate) IpAddr);

/// Checks that an HTTP/1.1 request has exactly one `Host` (RFC 9112, section 3.2), and an HTTP/1.0 request at most one.
///
/// # Errors
/// [`Error::HostHeader`] if it names none over HTTP/1.1, or several; [`Error::HostValue`] if what it names is no host.
pub(crate) fn check_host(request: &Request) -> Result<(), Error> {
    let values = request.headers().get_all(HOST);
    if !values.iter().all(|value| is_host(value.as_bytes())) {
        return Err(Error::HostValue);
    }
    let named = values.iter().count();
    match (request.version(), named) {
        (Version::HTTP_2 | Version::HTTP_3, _)
        | (_, 1)
        | (Version::HTTP_09 | Version::HTTP_10, 0) => Ok(()),
        (_, named) => Err(Error::HostHeader { named }),
    }
}

/// Checks that a body has no transfer coding but chunked (RFC 9112, section 6.1).
///
/// # Errors
/// [`Error::TransferCoding`] if it has another one, or chunked twice.
pub(crate) fn check_transfer_coding(headers: &HeaderMap) -> Result<(), Error> {
    let values = headers.get_all(TRANSFER_ENCODING).iter();
    let mut codings = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty());
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _) => Err(Error::TransferCoding),
    }
}

/// Middleware that refuses a request to a loopback address unless its host is a name of this machine or on the list.
pub(crate) async fn own_hosts_only(
    State(hosts): State<Arc<[String]>>,
    request: Request,
    next: Next,
) -> Response {
    let local = request.extensions().get::<LocalAddress>();
    let is_loopback = local.is_none_or(|local| local.0.to_canonical().is_loopback());
    let foreign = is_loopback
        .then(|| named(&request).find(|host| !is_own(host, &hosts)))
        .flatten();
    let Some(host) = foreign else {
        return next.run(request).await;
    };
    let host = shown(without_port(&host));
    response::error(&Error::ForeignHost { host }, ResponseFormat::NATIVE)
}

/// Returns the hosts that a request names: in its target (HTTP/2's `:authority`) and in `Host`.
fn named(request: &Request) -> impl Iterator<Item = String> {
    let target = request.uri().authority().map(ToString::to_string);
    let header = request.headers().get_all(HOST).iter();
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    target.into_iter().chain(header)
}

/// Returns `true` if no third party can point this host, with or without a port, to a loopback address: an IP address,
/// `localhost`, or a name in `hosts`.
fn is_own(authority: &str, hosts: &[String]) -> bool {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let address = bracketed.split(']').next().unwrap_or_default();
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let host = without_port(authority);
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host.parse::<IpAddr>().is_ok()
        || host == "localhost"
        || host.ends_with(".localhost")
        || hosts.iter().any(|own| own.eq_ignore_ascii_case(&host))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Returns whether a value of `Host` is a name or an address, with or without a port (RFC 3986, section 3.2.2); an
/// empty name is one.
fn is_host(value: &[u8]) -> bool {
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte);
    let (host_ends, port) = if value.first() == Some(&b'[') {
        let end = value.iter().position(|byte| *byte == b']');
        let address = |end: usize| value[1..end].iter().all(|byte| name(byte) || *byte == b':');
        let end = end.filter(|end| address(*end));
        (end.is_some(), end.map_or(&[][..], |end| &value[end + 1..]))
    } else {
        let end = value.iter().position(|byte| *byte == b':');
        let end = end.unwrap_or(value.len());
        (value[..end].iter().all(name), &value[end..])
    };
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_ends && is_port
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::{
        HeaderMap, TRANSFER_ENCODING, check_transfer_coding, is_host, is_own, without_port,
    };

    /// The answer named the host with its port as a name for the setting, which takes none.
    #[test]
    fn a_host_is_named_without_its_port() {
        assert_eq!(without_port("evil.example:3100"), "evil.example");
        assert_eq!(without_port("evil.example"), "evil.example");
        assert_eq!(without_port("[::1]:3100"), "[::1]");
    }

    /// `Host: a, b` and `Host: a b` were accepted.
    #[test]
    fn a_value_that_is_no_host_is_known() {
        for host in [
            "",
            "a",
            "a_b.example:80",
            "a:",
            "127.0.0.1:3100",
            "[::1]",
            "[::1]:80",
            "%61",
            "a,b",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for other in [
            "a, b", "a b", "a:b", "a:80:80", "a/b", "u@a", "[::1", "[::1]80", "[a b]", "::1",
            "\u{e9}", "a\tb",
        ] {
            assert!(!is_host(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_name_that_somebody_else_can_give_this_machine_is_not_its_own() {
        let hosts = ["telemetry.example".to_owned()];
        for own in [
            "127.0.0.1",
            "127.0.0.1:3100",
            "[::1]:3100",
            "[::1]",
            "192.168.1.7:80",
            "localhost",
            "LOCALHOST:3100",
            "localhost.",
            "ruvvector.localhost:3100",
            "Telemetry.example:3100",
        ] {
            assert!(is_own(own, &hosts), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:3100",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "localhost.evil.example",
            "sub.telemetry.example",
            "[evil.example]",
            "localhost@evil.example",
            "evil.example:localhost",
            "",
        ] {
            assert!(!is_own(foreign, &hosts), "{foreign}");
        }
    }

    #[test]
    fn chunked_alone_is_undone() {
        let checked = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRANSFER_ENCODING, HeaderValue::from_static(value));
            }
            check_transfer_coding(&headers).is_ok()
        };
        assert!(checked(&[]));
        assert!(checked(&["chunked"]));
        assert!(checked(&[" Chunked ,"]));
        for refused in [
            &["gzip, chunked"][..],
            &["gzip", "chunked"],
            &["chunked, chunked"],
            &["xchunked"],
        ] {
            assert!(!checked(refused), "{refused:?}");
        }
    }
}
