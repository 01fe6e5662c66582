//! `healthcheck`: one plain HTTP request to the running service, for containers that have no curl.
//!
//! **Invariant:** connecting and each read or write end within 5 s, and at most 16 KiB of the answer are read.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::config::{ListenAddress, PortSetting};

/// Limit of each attempt to connect, and of each read and write.
const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES: u64 = 16 << 10;

/// Asks `url`, or the service port at `listen`, for the service's readiness. Returns a sentence if it is ready.
///
/// # Errors
/// A sentence with the reason if the service is not ready, does not answer, or `url` is not valid.
pub fn run(listen: &ListenAddress, url: Option<&str>) -> Result<String, String> {
    let (host, addresses, path) = match url {
        Some(url) => from_url(url)?,
        None => from_listen_address(listen)?,
    };
    let answered = connect(&addresses).and_then(|stream| {
        let peer = stream.peer_addr()?;
        Ok((peer, ask(stream, &host, path)?))
    });
    let (peer, (status, body)) =
        answered.map_err(|error| format!("not ready: {host}{path} does not answer: {error}"))?;
    let host = url.map_or_else(|| peer.to_string(), |_| host);
    if status == 200 {
        Ok(format!("ready: {host}{path} answers 200"))
    } else {
        Err(format!("not ready: {host}{path} answers {status}: {body}"))
    }
}

/// Host with port, its addresses, and the path.
type HealthAddress<'a> = (String, Vec<SocketAddr>, &'a str);

fn from_url(url: &str) -> Result<HealthAddress<'_>, String> {
    let rest = url
        .strip_prefix("http://")
        .ok_or("the URL does not begin with http://")?;
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/health/ready"),
    };
    if url.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err("the URL holds a space or a character outside ASCII".to_owned());
    }
    let port_given = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if port_given {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let addresses = host
        .to_socket_addrs()
        .map_err(|error| format!("{host}: {error}"))?
        .collect();
    Ok((host, addresses, path))
}

fn from_listen_address(listen: &ListenAddress) -> Result<HealthAddress<'static>, String> {
    let PortSetting::On(port) = listen.service_port else {
        return Err("service_port is off: name another URL with --url".to_owned());
    };
    let addresses: Vec<SocketAddr> = listen
        .bind
        .iter()
        .flat_map(|address| match address {
            IpAddr::V4(address) if address.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
            // On a machine without IPv6 the service listens on IPv4 instead.
            IpAddr::V6(address) if address.is_unspecified() => {
                vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]
            }
            address => vec![*address],
        })
        .map(|address| SocketAddr::new(address, port))
        .collect();
    let host = addresses
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    Ok((host, addresses, "/health/ready"))
}

/// Returns the status, and the first 500 characters of the body, escaped for a terminal.
fn ask(mut stream: TcpStream, host: &str, path: &str) -> io::Result<(u16, String)> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let start: String = body.chars().take(500).collect();
    Ok((status, start.escape_debug().to_string()))
}

fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::other("it has no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
