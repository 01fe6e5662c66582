//! What settings must be to each other.
//!
//! **Invariant:** a configuration that cannot work is refused at the start, with the settings that are at odds; one that
//! works otherwise than it says is said to.

use super::draft::Draft;
use super::layers::{Source, Values};
use super::machine::Machine;
use super::value::{Port, show_size};
use crate::receive::memory_limit::budget_bytes;

/// Sets the memory budget and holds body limits to half of it; what changed a set value goes to `warnings`.
pub(super) fn fit_bodies(
    draft: &mut Draft,
    values: &Values,
    machine: &Machine,
    warnings: &mut Vec<String>,
) {
    let receive = &mut draft.receive;
    let budget = *receive
        .inflight_bytes
        .get_or_insert(budget_bytes(machine.memory_bytes));
    let half = (budget / 2).max(1);
    for (key, limit) in [
        ("otlp_wire_bytes", &mut receive.otlp_wire_bytes),
        ("otlp_decoded_bytes", &mut receive.otlp_decoded_bytes),
        ("ingest_wire_bytes", &mut receive.ingest_wire_bytes),
        ("ingest_decoded_bytes", &mut receive.ingest_decoded_bytes),
    ] {
        if *limit <= half {
            continue;
        }
        *limit = half;
        if values
            .get(key)
            .is_some_and(|value| value.source != Source::Default)
        {
            warnings.push(format!(
                "{key} is lowered to {}, half of inflight_bytes: larger requests could never be taken",
                show_size(half as u64)
            ));
        }
    }
}

/// The settings that are at odds with each other.
pub(super) fn problems(draft: &Draft) -> Vec<String> {
    let mut problems = ports(draft);
    if draft.write.retry_min > draft.write.retry_max {
        problems.push("retry_min is over retry_max".to_owned());
    }
    if draft.query.limit_default > draft.query.limit_max {
        problems.push("query_limit_default is over query_limit_max".to_owned());
    }
    if let Some(budget) = draft.log.budget_bytes {
        let largest = draft
            .receive
            .otlp_wire_bytes
            .max(draft.receive.ingest_wire_bytes) as u64;
        if budget < largest {
            problems.push(format!(
                "log_max_bytes is {}, and a request may have {}: raise it, or lower otlp_wire_bytes and \
                 ingest_wire_bytes",
                show_size(budget),
                show_size(largest)
            ));
        }
    }
    problems
}

fn ports(draft: &Draft) -> Vec<String> {
    let ports = [
        ("service_port", draft.service_port),
        ("otlp_http_port", draft.otlp_http_port),
        ("otlp_grpc_port", draft.otlp_grpc_port),
    ];
    if ports.iter().all(|(_, port)| *port == Port::Off) {
        return vec!["every port is off: nothing would be listened to".to_owned()];
    }
    let mut problems = Vec::new();
    for (n, (name, port)) in ports.iter().enumerate() {
        let Port::On(number @ 1..) = port else {
            continue;
        };
        for (other, _) in ports[n + 1..].iter().filter(|(_, other)| other == port) {
            problems.push(format!(
                "{name} and {other} are both {number}: move one, or close it with off"
            ));
        }
    }
    problems
}
