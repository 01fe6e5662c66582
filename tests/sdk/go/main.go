// An application on the OpenTelemetry SDK for Go, as tests/sdk/README.md says: go run . <protocol> <count>
//
// All is at its default but the endpoint and the resource.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// patience is how long a flush may take.
const patience = 300 * time.Second

// report is what the program prints.
type report struct {
	SDK          string         `json:"sdk"`
	Protocol     string         `json:"protocol"`
	TraceID      string         `json:"traceId"`
	Spans        []span         `json:"spans"`
	Logs         int            `json:"logs"`
	Points       map[string]int `json:"points"`
	Has          []string       `json:"has"`
	FlushStarted int64          `json:"flushStarted"`
	FlushEnded   int64          `json:"flushEnded"`
	Failures     []string       `json:"failures"`
}

// failures are told by the SDK from goroutines of its own.
type failures struct {
	lock  sync.Mutex
	texts []string
}

func (f *failures) Handle(err error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	text := []rune(err.Error())
	f.texts = append(f.texts, string(text[:min(len(text), 300)]))
}

func main() {
	count, err := strconv.Atoi(os.Args[len(os.Args)-1])
	if err != nil || len(os.Args) != 3 || count < 10 || count > 1000 {
		fail(fmt.Errorf("usage: %s <grpc | http/protobuf | http/json> <count from 10 to 1000>", os.Args[0]))
	}
	protocol := os.Args[1]
	failed := &failures{texts: []string{}}
	otel.SetErrorHandler(failed)
	ctx := context.Background()

	exporters, err := exportersOf(ctx, protocol)
	if err != nil {
		fail(err)
	}
	about, err := resource.Merge(resource.Default(), resource.NewSchemaless(
		attribute.String("service.name", "sdk-go"), attribute.String("cloud.provider", "aws")))
	if err != nil {
		fail(err)
	}
	traces := trace.NewTracerProvider(trace.WithResource(about), trace.WithBatcher(exporters.traces))
	logs := sdklog.NewLoggerProvider(
		sdklog.WithResource(about), sdklog.WithProcessor(sdklog.NewBatchProcessor(exporters.logs)))
	exponential := metric.NewView(metric.Instrument{Name: "contract.size"},
		metric.Stream{Aggregation: metric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}})
	metrics := metric.NewMeterProvider(metric.WithResource(about), metric.WithView(exponential),
		metric.WithReader(metric.NewPeriodicReader(exporters.metrics)))

	said := report{
		SDK: "opentelemetry-go " + otel.Version(), Protocol: protocol, Logs: count,
		Has: []string{"long", "event name", "map body", "exponential histogram"},
	}
	inRoot := makeSpans(ctx, traces, count, &said)
	makeLogs(ctx, inRoot, logs, count)
	said.Points = makePoints(ctx, metrics, count)

	said.FlushStarted = time.Now().UnixMilli()
	// A flush alone: a shutdown of the meter provider would export every point once more.
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var flushes sync.WaitGroup
	for _, flush := range []func(context.Context) error{traces.ForceFlush, logs.ForceFlush, metrics.ForceFlush} {
		flushes.Go(func() {
			if err := flush(limited); err != nil {
				failed.Handle(err)
			}
		})
	}
	flushes.Wait()
	said.FlushEnded = time.Now().UnixMilli()
	failed.lock.Lock()
	said.Failures = failed.texts
	failed.lock.Unlock()

	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		fail(err)
	}
	if len(said.Failures) > 0 {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}
