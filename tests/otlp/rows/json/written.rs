//! Requests in JSON, written field by field.
//!
//! **Invariant:** except for the written fields the item is valid, so that a refusal has no other cause.

use serde_json::{Value as Json, json};

use crate::case::{Case, Signal};
use crate::rows::items::has;
use crate::server::{Call, Server};
use crate::telemetry::{Mark, item, request};
use crate::verdict::Verdict;

/// A request of a valid item; these fields replace its own (a metric's data point's), and attributes are added to them.
pub(crate) fn with(case: Case, mark: &Mark, fields: Json) -> Call {
    let mut message = request(case.signal, vec![item(case.signal, mark, Vec::new())]).json();
    let (resources, scopes, items) = case.signal.lists();
    let mut target = &mut message[resources][0][scopes][0][items][0];
    if case.signal == Signal::Metrics {
        target = &mut target["gauge"]["dataPoints"][0];
    }
    let Json::Object(fields) = fields else {
        unreachable!("fields are an object")
    };
    for (name, value) in fields {
        match (&mut target[&name], value) {
            (Json::Array(old), Json::Array(new)) => old.extend(new),
            (place, value) => *place = value,
        }
    }
    Call::raw(case, message.to_string())
}

/// Expects that the request is accepted and the row has these values.
pub(super) fn stored(
    server: &Server,
    case: Case,
    mark: &Mark,
    fields: Json,
    expected: &Json,
) -> Verdict {
    let shown = fields.to_string();
    kept(server, &with(case, mark, fields), mark, expected).map_err(|fault| fault.of(&shown))
}

fn kept(server: &Server, call: &Call, mark: &Mark, expected: &Json) -> Verdict {
    let rows = server.kept(call, mark, 1)?;
    rows.iter().try_for_each(|row| has(row, expected))
}

/// An attribute `v` with that value.
pub(super) fn attribute(server: &Server, case: Case, value: &Json, expected: &Json) -> Verdict {
    written(server, case, &value.to_string(), expected)
}

/// The same, with the exact text of the value.
pub(super) fn written(server: &Server, case: Case, value: &str, expected: &Json) -> Verdict {
    let mark = Mark::new();
    let fields = json!({ "attributes": [{ "key": "v", "value": "PLACE" }] });
    let call = with(case, &mark, fields);
    let text = String::from_utf8_lossy(&call.body).replace("\"PLACE\"", value);
    kept(server, &Call::raw(case, text), &mark, expected).map_err(|fault| fault.of(value))
}
