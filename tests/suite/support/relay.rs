//! A TCP relay that delays what it forwards, as a network does: bytes and ends of connections, in each direction.
//!
//! **Invariant:** the order of bytes is kept, and nothing is forwarded before its time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::between::Between;

/// Listens on a separate port for as long as it lives.
pub struct Relay {
    pub address: SocketAddr,
    #[expect(dead_code, reason = "it listens for as long as it is held")]
    between: Between,
}

impl Relay {
    /// Forwards connections to `server`, each byte `delay` later.
    pub async fn start(server: SocketAddr, delay: Duration) -> Self {
        let between =
            Between::start(server, move |client, server| pass(client, server, delay)).await;
        Self {
            address: between.address,
            between,
        }
    }
}

async fn pass(client: TcpStream, server: TcpStream, delay: Duration) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        pump(from_client, to_server, delay),
        pump(from_server, to_client, delay)
    );
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut pieces) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut piece = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let _ = sender.send((Instant::now() + delay, piece[..length].to_vec()));
        }
        let _ = sender.send((Instant::now() + delay, Vec::new()));
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            let passed = if piece.is_empty() {
                to.shutdown().await
            } else {
                to.write_all(&piece).await
            };
            if passed.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
