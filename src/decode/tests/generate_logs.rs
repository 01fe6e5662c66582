//! Generates log requests of every shape, and their JSON as the specification writes it.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::generate::{
    attributes, attributes_json, hex, id, list, resource, resource_json, scope, scope_json, text,
    time, value, value_json,
};

pub(super) fn request() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope_logs = (option::of(scope()), vec(log_record(), 0..4), text()).prop_map(
        |(scope, log_records, schema_url)| ScopeLogs {
            scope,
            log_records,
            schema_url,
        },
    );
    let resource_logs = (option::of(resource()), vec(scope_logs, 0..3), text()).prop_map(
        |(resource, scope_logs, schema_url)| ResourceLogs {
            resource,
            scope_logs,
            schema_url,
        },
    );
    vec(resource_logs, 0..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

pub(super) fn log_record() -> impl Strategy<Value = LogRecord> {
    let times = (maybe_time(), maybe_time());
    let severity = (-1..30i32, text());
    let content = (option::of(value()), attributes(), text());
    let ids = (id(16), id(8));
    let counts = (0..3u32, any::<u32>());
    (times, severity, content, ids, counts).prop_map(|(times, severity, content, ids, counts)| {
        LogRecord {
            time_unix_nano: times.0,
            observed_time_unix_nano: times.1,
            severity_number: severity.0,
            severity_text: severity.1,
            body: content.0,
            attributes: content.1,
            event_name: content.2,
            trace_id: ids.0,
            span_id: ids.1,
            dropped_attributes_count: counts.0,
            flags: counts.1,
        }
    })
}

/// Generates times, about half of which are absent.
fn maybe_time() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), time()]
}

pub(super) fn to_json(request: &ExportLogsServiceRequest) -> Value {
    let resources = list(&request.resource_logs, |resource| {
        let scopes = list(&resource.scope_logs, |scope| {
            json!({
                "scope": scope.scope.as_ref().map_or(Value::Null, scope_json),
                "logRecords": list(&scope.log_records, log_record_json),
                "schemaUrl": scope.schema_url,
            })
        });
        json!({
            "resource": resource.resource.as_ref().map_or(Value::Null, resource_json),
            "scopeLogs": scopes,
            "schemaUrl": resource.schema_url,
        })
    });
    json!({ "resourceLogs": resources })
}

fn log_record_json(record: &LogRecord) -> Value {
    json!({
        "timeUnixNano": record.time_unix_nano.to_string(),
        "observedTimeUnixNano": record.observed_time_unix_nano,
        "severityNumber": record.severity_number,
        "severityText": record.severity_text,
        "body": record.body.as_ref().map_or(Value::Null, value_json),
        "attributes": attributes_json(&record.attributes),
        "droppedAttributesCount": record.dropped_attributes_count.to_string(),
        "flags": record.flags,
        "traceId": hex(&record.trace_id),
        "spanId": hex(&record.span_id),
        "eventName": record.event_name,
    })
}
