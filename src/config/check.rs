//! Rules between settings.
//!
//! **Invariant:** a configuration that cannot work is an error at the start that names the conflicting settings. A set
//! value that is lowered is a warning.

use crate::config::machine::Machine;
use crate::config::raw_config::RawConfig;
use crate::config::sources::{SettingSource, SettingValues};
use crate::config::value::{PortSetting, show_size};
use crate::memory::{self, LEAST_BYTES, MemoryShares, REST_BYTES};

/// Gives each stage its share of the process's memory, and lowers the limits of one request and one answer to what fits
/// their shares. Adds a warning for each limit that was set and is lowered.
pub(super) fn fit_memory(
    raw: &mut RawConfig,
    values: &SettingValues,
    machine: &Machine,
    warnings: &mut Vec<String>,
) {
    raw.memory_bytes = raw.memory_bytes.or(machine.memory_bytes);
    let shares = MemoryShares::of(raw.memory_bytes);
    raw.query.memory_bytes = shares.query_bytes;
    raw.journal.window_bytes = shares.window_bytes;
    raw.write.large_record_bytes = shares.large_record_bytes;
    let budget = *raw
        .receive
        .inflight_bytes
        .get_or_insert(shares.receive_bytes);
    if let Some(limit) = raw.memory_bytes {
        too_little(limit, shares, budget, warnings);
        raw.receive.http2_window_bytes = memory::http2_window_bytes(limit);
    }
    let mut lower = |key, limit: &mut usize, most: usize, reason| {
        if *limit <= most {
            return;
        }
        *limit = most;
        if values
            .get(key)
            .is_some_and(|value| value.source != SettingSource::Default)
        {
            warnings.push(format!(
                "{key} is lowered to {}, {reason}: more could never be held",
                show_size(most as u64)
            ));
        }
    };
    let (receive, query) = (&mut raw.receive, &mut raw.query);
    for (key, limit) in [
        ("otlp_wire_bytes", &mut receive.otlp_wire_bytes),
        ("otlp_decoded_bytes", &mut receive.otlp_decoded_bytes),
        ("ingest_wire_bytes", &mut receive.ingest_wire_bytes),
        ("ingest_decoded_bytes", &mut receive.ingest_decoded_bytes),
    ] {
        lower(key, limit, (budget / 2).max(1), "half of inflight_bytes");
    }
    let most = query.answer_bytes_max().max(1);
    let reason = "the most that the memory for all answers allows";
    lower("query_answer_bytes", &mut query.answer_bytes, most, reason);
}

/// Warns if the memory limit is too small for the service, or for the shares together with `receive_bytes`.
fn too_little(limit: u64, shares: MemoryShares, receive_bytes: usize, warnings: &mut Vec<String>) {
    if limit < LEAST_BYTES {
        warnings.push(format!(
            "this process may use {} of memory, and less than {} may not suffice: raise the limit of its control group, or \
             memory_bytes",
            show_size(limit),
            show_size(LEAST_BYTES)
        ));
        return;
    }
    let with_requests = MemoryShares {
        receive_bytes,
        ..shares
    };
    if with_requests.total_bytes() > limit.saturating_sub(REST_BYTES) {
        warnings.push(format!(
            "inflight_bytes is {}; together with the shares of the other stages that is more than the {} of memory that \
             this process may use: lower it, or leave it at auto",
            show_size(receive_bytes as u64),
            show_size(limit)
        ));
    }
}

/// Returns a sentence for each conflict between settings.
pub(super) fn problems(raw: &RawConfig) -> Vec<String> {
    let mut problems = ports(raw);
    if raw.write.retry_min > raw.write.retry_max {
        problems.push("retry_min is over retry_max".to_owned());
    }
    if raw.query.limit_default > raw.query.limit_max {
        problems.push("query_limit_default is over query_limit_max".to_owned());
    }
    if let Some(budget) = raw.journal.budget_bytes {
        let largest = raw
            .receive
            .otlp_wire_bytes
            .max(raw.receive.ingest_wire_bytes) as u64;
        if budget < largest {
            problems.push(format!(
                "journal_max_bytes is {}, and a request may have {}: raise it, or lower otlp_wire_bytes and \
                 ingest_wire_bytes",
                show_size(budget),
                show_size(largest)
            ));
        }
    }
    problems
}

fn ports(raw: &RawConfig) -> Vec<String> {
    let ports = [
        ("service_port", raw.service_port),
        ("otlp_http_port", raw.otlp_http_port),
        ("otlp_grpc_port", raw.otlp_grpc_port),
    ];
    if ports.iter().all(|(_, port)| *port == PortSetting::Off) {
        return vec!["every port is off: the service would listen to nothing".to_owned()];
    }
    let mut problems = Vec::new();
    for (n, (name, port)) in ports.iter().enumerate() {
        let PortSetting::On(number @ 1..) = port else {
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
