//! Ports for programs that need one before they listen.
//!
//! **Invariant:** one process hands no port out twice, nor a port that the system assigns automatically.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which Linux takes ports of outgoing connections and of port 0 (ip_local_port_range).
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port of 127.0.0.1 on which nothing listens.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Concurrent processes begin far from each other.
    let begin = std::process::id().wrapping_mul(1_009) % u32::from(COUNT);
    let begin = u16::try_from(begin).expect("below the count");
    for _ in 0..COUNT {
        let port = FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {FIRST} on is free");
}
