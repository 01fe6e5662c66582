package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
)

type exporters struct {
	traces  trace.SpanExporter
	logs    sdklog.Exporter
	metrics metric.Exporter
}

// exportersOf makes them with no option: the endpoint is in the environment. In Go a protocol is a package, but for JSON,
// which this version has for traces alone.
func exportersOf(ctx context.Context, protocol string) (made exporters, err error) {
	var errs [3]error
	switch protocol {
	case "grpc":
		made.traces, errs[0] = otlptracegrpc.New(ctx)
		made.logs, errs[1] = otlploggrpc.New(ctx)
		made.metrics, errs[2] = otlpmetricgrpc.New(ctx)
	case "http/protobuf", "http/json":
		if protocol == "http/json" {
			if err := os.Setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol); err != nil {
				return made, err
			}
		}
		made.traces, errs[0] = otlptracehttp.New(ctx)
		made.logs, errs[1] = otlploghttp.New(ctx)
		made.metrics, errs[2] = otlpmetrichttp.New(ctx)
	default:
		return made, fmt.Errorf("not a protocol of this SDK: %s", protocol)
	}
	return made, errors.Join(errs[:]...)
}
