//! Load generator and floors for `scripts/bench/bench.sh`; not an independent benchmark.
//!
//! ```text
//! load flood  url= pid= spans= connections= seconds=|requests= [body=]   closed loop: spans/s, the server's CPU a span
//! load steady url= pid= spans= rate= seconds= [samples=]                 open loop: latency from when each was due
//! load ask    url= paths= count=                                         open loop: latency of GET requests
//! load drop                                                              floor: a server that reads bodies and drops them
//! load parse  spans= seconds= body=native|gzip                           floor: serde, or inflate, of the same bodies
//! load sync   file= spans= rate= seconds= [samples=]                     floor: the same bytes written and synced
//! load copy   url= statement= file= connections= batch= [rate=]          floor: COPY of the same rows in batches
//! load sqlite file= source= schema=                                      floor: multi-row inserts of the same rows
//! load rows   url= statement= count= days= from_ms= connections=                  fills the queries' data set by COPY
//! ```
//!
//! `url` is `http://…` for HTTP or `grpc://…` for OTLP/gRPC. `body` is `spans` by default; `bodies.rs` has all. Each prints one
//! JSON object on one line.
//!
//! **Invariant:** only spans that were acknowledged by 200 are counted.

#![expect(clippy::print_stdout, reason = "a command prints what it found")]

use std::process::ExitCode;

/// Named arguments.
mod arguments;

/// Requests to the queries' API.
mod ask;

/// Ready-made requests.
mod bodies;

/// Floor: COPY in batches.
mod copy;

/// Floor: the server that drops.
mod floor;

/// Floor: parsers of the same bodies.
mod parse;

/// The CPU time of a process, from `/proc`.
mod process;

/// The queries' data set.
mod rows;

/// Requests that are sent, closed and open loop.
mod send;

/// Floor: inserts into SQLite.
mod sqlite;

/// Floor: the bare disk.
mod sync;

/// Latencies and due times.
mod timing;

fn main() -> ExitCode {
    let all: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let Some((command, named)) = all.split_first() else {
        // `cargo bench` runs every bench target: this one prints nothing without arguments.
        return ExitCode::SUCCESS;
    };
    let arguments = arguments::Arguments::read(named);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the machine has threads");
    let found = runtime.block_on(async {
        match command.as_str() {
            "flood" => send::flood(&arguments).await,
            "steady" => send::steady(&arguments).await,
            "ask" => ask::measure(&arguments).await,
            "drop" => floor::serve().await,
            "parse" => parse::measure(&arguments),
            "sync" => sync::measure(&arguments),
            "copy" => copy::measure(&arguments).await,
            "sqlite" => sqlite::measure(&arguments).await,
            "rows" => rows::fill(&arguments).await,
            other => panic!("{other} is no command"),
        }
    });
    println!("{found}");
    ExitCode::SUCCESS
}
