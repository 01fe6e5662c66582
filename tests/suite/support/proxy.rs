//! A TCP proxy before PostgreSQL that fails on demand.
//!
//! **Invariant:** forwarded bytes are unchanged and in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use super::between::Between;

/// Listens on a separate port for as long as it lives.
pub struct Proxy {
    pub port: u16,
    faults: Arc<Faults>,
    #[expect(dead_code, reason = "it listens for as long as it is held")]
    between: Between,
}

/// Every fault is off at first.
struct Faults {
    lose_commits: AtomicU32,
    lost_commits: AtomicU32,
    stalled: AtomicBool,
    /// Bytes that clients may still send; negative = no limit.
    bytes_left: AtomicI64,
    latency_ms: AtomicU64,
    changed: Notify,
}

impl Proxy {
    pub async fn start(server: SocketAddr) -> Self {
        let faults = Arc::new(Faults {
            lose_commits: AtomicU32::new(0),
            lost_commits: AtomicU32::new(0),
            stalled: AtomicBool::new(false),
            bytes_left: AtomicI64::new(-1),
            latency_ms: AtomicU64::new(0),
            changed: Notify::new(),
        });
        let shared = Arc::clone(&faults);
        let between = Between::start(server, move |client, server| {
            pass(client, server, Arc::clone(&shared))
        });
        let between = between.await;
        Self {
            port: between.address.port(),
            faults,
            between,
        }
    }

    /// Cuts the connection instead of forwarding the answer to the next `count` COMMITs.
    pub fn lose_commits(&self, count: u32) {
        self.faults.lose_commits.store(count, Ordering::SeqCst);
    }

    pub fn lost_commits(&self) -> u32 {
        self.faults.lost_commits.load(Ordering::SeqCst)
    }

    /// Stops reading, from either side, of any connection; still accepts connections.
    pub fn stall(&self) {
        self.faults.stalled.store(true, Ordering::SeqCst);
    }

    pub fn unstall(&self) {
        self.faults.stalled.store(false, Ordering::SeqCst);
        self.faults.changed.notify_waiters();
    }

    /// Cuts the connection whose client sends the byte after these.
    pub fn cut_after(&self, bytes: u32) {
        self.faults
            .bytes_left
            .store(i64::from(bytes), Ordering::SeqCst);
    }

    /// True if that cut was made.
    pub fn has_cut(&self) -> bool {
        self.faults.bytes_left.load(Ordering::SeqCst) < 0
    }

    /// Delays each piece in both directions.
    pub fn delay(&self, latency: Duration) {
        let ms = u64::try_from(latency.as_millis()).expect("a short time");
        self.faults.latency_ms.store(ms, Ordering::SeqCst);
    }
}

async fn pass(client: TcpStream, server: TcpStream, faults: Arc<Faults>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // The first side that ends also ends the other.
    tokio::select! {
        _ = upstream(from_client, to_server, &faults) => {}
        _ = downstream(from_server, to_client, &faults) => {}
    }
}

async fn upstream(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    faults: &Faults,
) -> std::io::Result<()> {
    let mut piece = vec![0; 16 << 10];
    loop {
        faults.hold().await;
        let length = from.read(&mut piece).await?;
        faults.hold().await;
        let left = faults.bytes_left.load(Ordering::SeqCst);
        if left >= 0 {
            let after = left - i64::try_from(length).expect("a small piece");
            faults.bytes_left.store(after.max(-1), Ordering::SeqCst);
            if after < 0 {
                let allowed = usize::try_from(left).expect("not negative");
                return to.write_all(&piece[..allowed]).await;
            }
        }
        if length == 0 {
            return Ok(());
        }
        to.write_all(&piece[..length]).await?;
    }
}

/// Forwards whole messages: one byte of type, four of length, the body.
async fn downstream(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    faults: &Faults,
) -> std::io::Result<()> {
    let mut held = Vec::new();
    loop {
        faults.hold().await;
        if from.read_buf(&mut held).await? == 0 {
            return Ok(());
        }
        faults.hold().await;
        while let Some(length) = message_length(&held) {
            if held.starts_with(b"C") && held[5..length] == *b"COMMIT\0" && faults.loses_commit() {
                return Ok(());
            }
            to.write_all(&held[..length]).await?;
            held.drain(..length);
        }
    }
}

fn message_length(held: &[u8]) -> Option<usize> {
    let length = held.get(1..5)?.try_into().expect("four bytes");
    let length = 1 + usize::try_from(u32::from_be_bytes(length)).expect("fits");
    (held.len() >= length).then_some(length)
}

impl Faults {
    fn loses_commit(&self) -> bool {
        let left = self
            .lose_commits
            .try_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() {
            self.lost_commits.fetch_add(1, Ordering::SeqCst);
        }
        left.is_ok()
    }

    async fn hold(&self) {
        let latency = self.latency_ms.load(Ordering::SeqCst);
        if latency > 0 {
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.stalled.load(Ordering::SeqCst) {
                return;
            }
            changed.await;
        }
    }
}
