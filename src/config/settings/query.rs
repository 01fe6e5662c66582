//! Settings of queries.
//!
//! **Invariant:** these settings bound the rows, time, concurrency and bytes of every query.

use crate::config::settings::{Setting, put};
use crate::config::value::{count, memory, timeout};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "query_limit_default",
        "NUMBER",
        "100",
        "Events in a page if the query names no limit",
        |raw, text| put(&mut raw.query.limit_default, count(text, 1)),
    ),
    Setting::new(
        "query_limit_max",
        "NUMBER",
        "10000",
        "The largest limit that a query may name",
        |raw, text| put(&mut raw.query.limit_max, count(text, 1)),
    ),
    Setting::new(
        "query_offset_max",
        "NUMBER",
        "100000",
        "The largest offset; deeper pages follow the Link header",
        |raw, text| put(&mut raw.query.offset_max, count(text, 0)),
    ),
    Setting::new(
        "query_filters_max",
        "NUMBER",
        "20",
        "Filters in one query",
        |raw, text| put(&mut raw.query.filters_max, count(text, 1)),
    ),
    Setting::new(
        "query_timeout",
        "DURATION",
        "30s",
        "Time limit for one query",
        |raw, text| put(&mut raw.query.timeout, timeout(text)),
    ),
    Setting::new(
        "query_concurrency",
        "NUMBER",
        "8",
        "Queries at once; further ones are answered 503",
        |raw, text| put(&mut raw.query.concurrency, count(text, 1)),
    ),
    Setting::new(
        "query_answer_bytes",
        "SIZE",
        "32MiB",
        "The largest answer, which is cut between events; lowered at the start to a third of the memory for all answers",
        |raw, text| put(&mut raw.query.answer_bytes, memory(text)),
    ),
];
