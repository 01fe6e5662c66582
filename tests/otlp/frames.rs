//! The first frames of HTTP/2 (RFC 9113), which show a server's limits and its answer to a ping.
//!
//! **Invariant:** only these frames are sent: the preface, empty settings, one ping.

use std::time::Duration;

use hyper::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;

pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;

/// The frames that a server sends before any request.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    /// The settings, by their numbers.
    pub settings: Vec<(u16, u32)>,
    /// True if the ping was answered.
    pub ponged: bool,
}

/// # Errors
/// If the server does not speak HTTP/2.
pub(crate) async fn greet(url: &Uri) -> Result<Greeting, String> {
    timeout(PATIENCE, exchange(url))
        .await
        .map_err(|_| format!("no settings and no pong within {PATIENCE:?}"))?
        .map_err(|error| format!("no HTTP/2: {error}"))
}

async fn exchange(url: &Uri) -> std::io::Result<Greeting> {
    let host = url.host().unwrap_or("localhost").trim_matches(['[', ']']);
    let mut stream = TcpStream::connect((host, url.port_u16().unwrap_or(80))).await?;
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
    hello.extend([0, 0, 8, PING, 0, 0, 0, 0, 0]);
    hello.extend(*b"conforms");
    stream.write_all(&hello).await?;
    let (mut greeting, mut is_greeted) = (Greeting::default(), false);
    while !(is_greeted && greeting.ponged) {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [high, middle, low, kind, flags, ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let mut payload = Vec::new();
        (&mut stream)
            .take(length.into())
            .read_to_end(&mut payload)
            .await?;
        match (kind, flags & ACK) {
            (SETTINGS, 0) => {
                is_greeted = true;
                greeting.settings = settings(&payload);
            }
            (PING, ACK) => greeting.ponged = payload == *b"conforms",
            _ => {}
        }
    }
    Ok(greeting)
}

fn settings(payload: &[u8]) -> Vec<(u16, u32)> {
    let (settings, _) = payload.as_chunks::<6>();
    let read = |[a, b, c, d, e, f]: &[u8; 6]| {
        (
            u16::from_be_bytes([*a, *b]),
            u32::from_be_bytes([*c, *d, *e, *f]),
        )
    };
    settings.iter().map(read).collect()
}
