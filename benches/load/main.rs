//! A load generator and a floor, for `scripts/bench/bench.sh`; not an independent benchmark.
//!
//! ```text
//! load floor                                             a server that reads OTLP bodies and drops them
//! load flood  URL PID SECONDS CONNECTIONS SPANS          as fast as it goes: spans/s, the server's CPU a span, latency
//! load steady URL PID SECONDS RATE SPANS                 open loop at RATE spans/s: latency from when each was due
//! load sync   FILE COUNT                                 write 64 KiB + fdatasync into a preallocated file
//! ```
//!
//! URL is `http://…` for OTLP/HTTP or `grpc://…` for OTLP/gRPC. Each prints one JSON object on one line.
//!
//! **Invariant:** only spans that were acknowledged by 200 are counted.

#![expect(clippy::print_stdout, reason = "a command prints what it found")]

use std::process::ExitCode;

/// Ready-made OTLP requests.
mod bodies;

/// The server that drops.
mod floor;

/// Requests, closed and open loop.
mod send;

/// The bare disk.
mod sync;

/// The CPU time of another process, from `/proc`.
mod process;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the machine has threads");
    let said = match arguments.as_slice() {
        ["floor"] => runtime.block_on(floor::serve()),
        ["flood", url, pid, seconds, connections, spans] => {
            let plan = send::Plan::read(url, pid, seconds, spans);
            runtime.block_on(send::flood(plan, number(connections)))
        }
        ["steady", url, pid, seconds, rate, spans] => {
            let plan = send::Plan::read(url, pid, seconds, spans);
            runtime.block_on(send::steady(plan, number(rate)))
        }
        ["sync", file, count] => sync::measure(file, number(count)),
        // `cargo bench` runs every bench target: this one prints nothing without arguments.
        _ => return ExitCode::SUCCESS,
    };
    println!("{said}");
    ExitCode::SUCCESS
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is not a number"))
}
