// A service that asks the next one, where NEXT has its address, and says who answered.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
)

// The set-up of OpenTelemetry's "Getting Started".
func setUp(ctx context.Context) (*trace.TracerProvider, error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, err
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter))
	otel.SetTracerProvider(provider)
	// Go is the one SDK without propagators of its own accord: without this line nothing is copied.
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	return provider, nil
}

// The context of the request that came in goes with the one that goes out.
func ask(ctx context.Context, client *http.Client, next string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, next, nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

func main() {
	provider, err := setUp(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer provider.Shutdown(context.Background())
	next := os.Getenv("NEXT")
	client := &http.Client{Transport: otelhttp.NewTransport(http.DefaultTransport)}
	handler := func(answer http.ResponseWriter, request *http.Request) {
		text := ""
		if next != "" {
			behind, err := ask(request.Context(), client, next)
			if err != nil {
				http.Error(answer, err.Error(), http.StatusBadGateway)
				return
			}
			text = " " + behind
		}
		fmt.Fprint(answer, "go"+text)
	}
	address := "127.0.0.1:" + os.Getenv("PORT")
	log.Fatal(http.ListenAndServe(address, otelhttp.NewHandler(http.HandlerFunc(handler), "GET")))
}
