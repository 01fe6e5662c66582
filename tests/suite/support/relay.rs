//! A TCP relay that delays what it passes on, as a network does: bytes and ends of connections, each way.
//!
//! **Invariant:** the order of bytes is kept, and nothing is passed on before its time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Listens on a port of its own for as long as it lives.
pub struct Relay {
    pub address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// Passes connections on to `server`, each byte `delay` later.
    pub async fn start(server: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, delay));
            }
        });
        Self { address, accepting }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, server: SocketAddr, delay: Duration) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a socket of our own");
    }
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
