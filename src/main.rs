//! The binary: arguments, tracing, bind, run, exit code.

fn main() {}
