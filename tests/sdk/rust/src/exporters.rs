//! The exporters of each protocol, with no setting of their own.

use std::error::Error;

use opentelemetry_otlp::{LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig};

pub struct Exporters {
    pub traces: SpanExporter,
    pub logs: LogExporter,
    pub metrics: MetricExporter,
}

pub fn all(protocol: &str) -> Result<Exporters, Box<dyn Error>> {
    match protocol {
        "grpc" => grpc(),
        "http/protobuf" => http(Protocol::HttpBinary),
        "http/json" => http(Protocol::HttpJson),
        _ => Err(format!("not a protocol of this SDK: {protocol}").into()),
    }
}

fn grpc() -> Result<Exporters, Box<dyn Error>> {
    // Kept to the end of the process: the connections live on it.
    let runtime = Box::leak(Box::new(tokio::runtime::Runtime::new()?));
    let _entered = runtime.enter();
    Ok(Exporters {
        traces: SpanExporter::builder().with_tonic().build()?,
        logs: LogExporter::builder().with_tonic().build()?,
        metrics: MetricExporter::builder().with_tonic().build()?,
    })
}

fn http(protocol: Protocol) -> Result<Exporters, Box<dyn Error>> {
    let traces = SpanExporter::builder().with_http();
    let logs = LogExporter::builder().with_http();
    let metrics = MetricExporter::builder().with_http();
    Ok(Exporters {
        traces: traces.with_protocol(protocol).build()?,
        logs: logs.with_protocol(protocol).build()?,
        metrics: metrics.with_protocol(protocol).build()?,
    })
}
