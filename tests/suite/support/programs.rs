//! Programs of other projects, as `scripts/test.sh` builds them under `target/`.
//!
//! **Invariant:** a missing program fails its test, and the failure names it.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The program at that path in the project, with empty input.
pub fn brought(path: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    command.stdin(Stdio::null());
    command
}

/// Starts it.
pub fn start(command: &mut Command) -> Child {
    let child = command.spawn();
    child.unwrap_or_else(|error| panic!("{command:?}: {error}; run the tests by scripts/test.sh"))
}

/// Runs it until it ends, and returns its output.
pub async fn run(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = start(&mut command);
    tokio::task::spawn_blocking(move || child.wait_with_output())
        .await
        .expect("waiting does not panic")
        .expect("a program's pipes can be read")
}
