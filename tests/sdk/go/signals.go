package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	scope   = "contract"
	version = "1.2.3"
)

// span is what the report says of one.
type span struct {
	SpanID   string `json:"spanId"`
	Name     string `json:"name"`
	Kind     int    `json:"kind"`
	Status   string `json:"status"`
	Start    string `json:"start"`
	Duration int64  `json:"duration"`
}

// kinds by number mod 5, with OTLP's numbers.
var kinds = [5]struct {
	kind trace.SpanKind
	otlp int
}{
	{trace.SpanKindServer, 2}, {trace.SpanKindClient, 3}, {trace.SpanKindInternal, 1},
	{trace.SpanKindProducer, 4}, {trace.SpanKindConsumer, 5},
}

// makeSpans fills in the report, and returns a context inside the root span.
func makeSpans(ctx context.Context, provider *sdktrace.TracerProvider, count int, said *report) context.Context {
	tracer := provider.Tracer(scope, trace.WithInstrumentationVersion(version))
	said.Spans = make([]span, count)
	start := func(ctx context.Context, name string, number int, options ...trace.SpanStartOption) (context.Context, trace.Span) {
		options = append(options, trace.WithSpanKind(kinds[number%5].kind),
			trace.WithAttributes(attribute.Int("number", number)))
		return tracer.Start(ctx, name, options...)
	}
	end := func(made trace.Span, number int) {
		switch number % 5 {
		case 1:
			made.SetStatus(codes.Error, "deadlock detected")
		case 2:
			made.SetStatus(codes.Ok, "")
		}
		made.End()
		read := made.(sdktrace.ReadOnlySpan)
		said.Spans[number] = span{
			SpanID: read.SpanContext().SpanID().String(), Name: read.Name(), Kind: kinds[number%5].otlp,
			Status: map[codes.Code]string{codes.Unset: "UNSET", codes.Error: "ERROR", codes.Ok: "OK"}[read.Status().Code],
			Start:  fmt.Sprint(read.StartTime().UnixNano()), Duration: read.EndTime().Sub(read.StartTime()).Nanoseconds(),
		}
	}

	inRoot, root := start(ctx, "root", 0, trace.WithAttributes(
		attribute.String("text", "Grüße \U0001F980"), attribute.String("blank", ""),
		attribute.Int64("int", 9007199254740991), attribute.Int64("long", math.MinInt64),
		attribute.Float64("double", 0.1), attribute.Bool("yes", true),
		attribute.StringSlice("texts", []string{"a", "b"}), attribute.Int64Slice("ints", []int64{1, -2}),
		attribute.Float64Slice("doubles", []float64{1.5, -0.5}), attribute.BoolSlice("bools", []bool{true, false})))
	said.TraceID = root.SpanContext().TraceID().String()
	root.AddEvent("received", trace.WithAttributes(attribute.Int("items", 3)))
	for number := 1; number < count; number++ {
		var options []trace.SpanStartOption
		if number == 1 {
			options = append(options, trace.WithAttributes(
				attribute.String("correlation.id", "order-4711"), attribute.String("db.system.name", "postgresql")),
				trace.WithLinks(trace.Link{SpanContext: root.SpanContext(),
					Attributes: []attribute.KeyValue{attribute.String("why", "contract")}}))
		}
		_, item := start(inRoot, fmt.Sprintf("item %d", number), number, options...)
		end(item, number)
	}
	end(root, 0)
	return inRoot
}

// severities by number mod 6.
var severities = [6]log.Severity{
	log.SeverityTrace, log.SeverityDebug, log.SeverityInfo, log.SeverityWarn, log.SeverityError, log.SeverityFatal,
}

func makeLogs(ctx, inRoot context.Context, provider *sdklog.LoggerProvider, count int) {
	logger := provider.Logger(scope, log.WithInstrumentationVersion(version))
	for number := range count {
		var record log.Record
		record.SetTimestamp(time.Now())
		record.SetSeverity(severities[number%6])
		record.SetSeverityText(severities[number%6].String())
		record.AddAttributes(attribute.Int("number", number))
		record.SetBody(attribute.StringValue(fmt.Sprintf("log %d", number)))
		switch number {
		case 1:
			record.SetEventName("contract.happened")
		case 2:
			record.SetBody(attribute.MapValue(attribute.String("text", "a"), attribute.Int("n", 1),
				attribute.Slice("list", attribute.IntValue(1), attribute.StringValue("b"))))
		}
		within := ctx
		if number%2 == 0 {
			within = inRoot
		}
		logger.Emit(within, record)
	}
}

// makePoints returns how many points each metric has.
func makePoints(ctx context.Context, provider *sdkmetric.MeterProvider, count int) map[string]int {
	meter := provider.Meter(scope, metric.WithInstrumentationVersion(version))
	requests := must(meter.Int64Counter("contract.requests", metric.WithUnit("{request}")))
	for series := range count {
		requests.Add(ctx, int64(series)+1, metric.WithAttributes(attribute.Int("series", series)))
	}
	inFlight := must(meter.Int64UpDownCounter("contract.in_flight", metric.WithUnit("{request}")))
	inFlight.Add(ctx, 5)
	inFlight.Add(ctx, -7)
	must(meter.Float64Gauge("contract.temperature", metric.WithUnit("Cel"))).Record(ctx, 21.5)
	latency := must(meter.Float64Histogram("contract.latency", metric.WithUnit("ms")))
	for _, value := range []float64{1.0, 10.0, 100.5} {
		latency.Record(ctx, value)
	}
	size := must(meter.Float64Histogram("contract.size", metric.WithUnit("By")))
	for _, value := range []float64{1.0, 2.0, 4.0} {
		size.Record(ctx, value)
	}
	return map[string]int{
		"contract.requests": count, "contract.in_flight": 1, "contract.temperature": 1,
		"contract.latency": 1, "contract.size": 1,
	}
}

func must[T any](made T, err error) T {
	if err != nil {
		fail(err)
	}
	return made
}
