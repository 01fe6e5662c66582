//! Decode writes JSON exactly as PostgreSQL prints it.
//!
//! **Invariant:** every member that a row can have is part of a request here.

use ruvvector_service::decode::{EventMetadata, Sink, events};
use ruvvector_service::event::{Encoding, Event, Resource, Signal};

use super::{POSITION, source};

/// Keeps each row's metadata.
#[derive(Default)]
struct Metadata(Vec<String>);

impl Sink for Metadata {
    fn resource(&mut self, resource: Resource) {
        self.0.extend([resource.resource, resource.scope]);
    }

    fn event(&mut self, event: &Event<'_>, metadata: &EventMetadata<'_>) {
        self.0.push(metadata.of(event).metadata.into_owned());
    }
}

#[tokio::test]
async fn what_is_written_is_what_jsonb_prints() {
    let native = [
        r#"{"bb":1,"a":[1e2,1.50,-0,-0.0,0e5,0.00e1,1.5E+3,15e-3,9223372036854775808,1e399,-1e-300]}"#,
        r#"{"é":1,"zz":2,"ab":{"b":[],"a":{}},"a":null,"":true,"a":"last"}"#,
        r#"{"text":"\u0000\"\\\/\b\f\n\r\t\u0001\u001f\u007f\u2028é\ud83d\ude00","\u0000":"\u00e9"}"#,
        r#"{"deep":[[[[{"x":{"y":[{"z":1}]}}]]]],"nul\u0000":1,"nul\ufffd":2}"#,
    ];
    let native: Vec<_> = native
        .iter()
        .map(|metadata| {
            format!(
                r#"{{"correlationId":"c","integration":"i","eventType":"e","metadata":{metadata}}}"#
            )
        })
        .collect();
    let value = |json: &str| format!(r#"{{"key":"k{}","value":{json}}}"#, json.len());
    let attributes = [
        r#"{"doubleValue":1}"#,
        r#"{"doubleValue":5e-324}"#,
        r#"{"doubleValue":-1.7976931348623157e308}"#,
        r#"{"doubleValue":"-Infinity"}"#,
        r#"{"intValue":"-9223372036854775808"}"#,
        r#"{"bytesValue":"-_8"}"#,
        r#"{"arrayValue":{"values":[{},{"boolValue":true},{"kvlistValue":{"values":[{"key":"$x"}]}}]}}"#,
    ]
    .map(value)
    .join(",");
    let spans = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{attributes}],"droppedAttributesCount":1,
        "entityRefs":[{{"type":"t","idKeys":["b","a"],"descriptionKeys":["d"],"schemaUrl":"u"}}]}},"schemaUrl":"s",
        "scopeSpans":[{{"schemaUrl":"s","scope":{{"name":"n","version":"v","attributes":[{attributes}],"droppedAttributesCount":2}},
        "spans":[{{"traceId":"{}","spanId":"{}","name":"{}","traceState":"t","flags":1,"attributes":[{attributes}],
        "droppedAttributesCount":1,"droppedEventsCount":2,"droppedLinksCount":3,"startTimeUnixNano":"18446744073709551615",
        "endTimeUnixNano":"5","status":{{"message":"m","code":9}},
        "events":[{{"name":"e","timeUnixNano":1,"attributes":[{attributes}],"droppedAttributesCount":1}},{{}}],
        "links":[{{"traceId":"{}","spanId":"{}","traceState":"t","flags":1,"attributes":[{attributes}],
        "droppedAttributesCount":1}},{{}}]}}]}}]}}]}}"#,
        "1".repeat(32),
        "2".repeat(16),
        "é".repeat(256),
        "3".repeat(32),
        "4".repeat(16),
    );
    let around = r#""attributes":[{"key":"a"}],"timeUnixNano":"18446744073709551615","startTimeUnixNano":"1","flags":1"#;
    let exemplar = r#"{"timeUnixNano":1,"asDouble":1e300,"spanId":"2222222222222222","traceId":"33333333333333333333333333333333",
        "filteredAttributes":[{"key":"bb"},{"key":"a"}]},{"asInt":1}"#;
    let metrics = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[
        {{"name":"{name}","unit":"u","description":"d","metadata":[{{"key":"k"}}],"sum":{{"aggregationTemporality":1,
        "isMonotonic":true,"dataPoints":[{{{around},"asDouble":5e-324,"exemplars":[{exemplar}]}},{{{around},"asInt":-1}}]}}}},
        {{"name":"{name}","unit":"u","description":"d","metadata":[{{"key":"k"}}],"histogram":{{"aggregationTemporality":1,
        "dataPoints":[{{{around},"count":"18446744073709551615","sum":0,"min":-1e-7,"max":1,"bucketCounts":[1,2],
        "explicitBounds":["NaN",1],"exemplars":[{exemplar}]}}]}}}},
        {{"name":"{name}","unit":"u","description":"d","metadata":[{{"key":"k"}}],"exponentialHistogram":{{
        "aggregationTemporality":1,"dataPoints":[{{{around},"count":1,"sum":0,"min":1,"max":1,"scale":-1,"zeroCount":1,
        "zeroThreshold":1,"positive":{{"offset":1,"bucketCounts":[1]}},"negative":{{}},"exemplars":[{exemplar}]}}]}}}},
        {{"name":"{name}","unit":"u","description":"d","metadata":[{{"key":"k"}}],"summary":{{"dataPoints":[{{{around},
        "count":1,"sum":1,"quantileValues":[{{"quantile":1,"value":1}}]}}]}}}}]}}]}}]}}"#,
        name = "é".repeat(256),
    );
    let mut metadata = Metadata::default();
    for (body, signal) in [
        (format!("[{}]", native.join(",")), Signal::Event),
        (spans, Signal::Span),
        (metrics, Signal::Metric),
    ] {
        let source = source(signal, Encoding::Json);
        events(body.as_bytes(), &source, POSITION, &mut metadata).expect("valid");
    }
    assert_eq!(metadata.0.len(), 14);

    let database = crate::support::postgres::Database::new().await;
    let mut connection = database.connect().await;
    for text in metadata.0 {
        let printed: String = sqlx::query_scalar("SELECT $1::text::jsonb::text")
            .bind(&text)
            .fetch_one(&mut connection)
            .await
            .expect("JSONB takes it");
        assert_eq!(printed, text);
    }
}
