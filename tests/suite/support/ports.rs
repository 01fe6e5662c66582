//! Ports for who has to be told one before it listens.
//!
//! **Invariant:** no port is given out twice by one process, nor one that the system gives to whoever asks for any.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what Linux takes ports of outgoing connections and of port 0 from (ip_local_port_range).
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port of 127.0.0.1 that nobody listens on.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes beside each other begin far from each other.
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
