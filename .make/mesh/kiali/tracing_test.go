// Kiali's own code asks a Jaeger for the traces of the proxies, as its pages do. ../jaeger.sh compiles this file as a part of
// Kiali's package `business`; the node and the spans are those of ../jaeger.py.
package business

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/kiali/kiali/config"
	"github.com/kiali/kiali/models"
	"github.com/kiali/kiali/tracing"
	"github.com/kiali/kiali/tracing/jaeger/model"
	jaegertypes "github.com/kiali/kiali/tracing/jaeger/model/json"
)

const (
	domain    = "svc.cluster.local"
	namespace = "shop"
	// A gateway, a sidecar and the application, with two spans of the gateway or one of a waypoint.
	spansOfTrace = 4
)

// asker asks as Kiali does with one configuration of it.
type asker struct {
	*testing.T
	client *tracing.Client
	conf   *config.Config
}

func newAsker(t *testing.T, grpc bool) asker {
	conf := config.NewConfig()
	conf.ExternalServices.Tracing.Enabled = true
	conf.ExternalServices.Tracing.UseGRPC = grpc
	conf.ExternalServices.Tracing.InternalURL = os.Getenv("JAEGER_HTTP")
	if grpc {
		conf.ExternalServices.Tracing.InternalURL = os.Getenv("JAEGER_GRPC")
	}
	config.Set(conf)
	client, err := tracing.NewClient(t.Context(), conf, "", false)
	if err != nil {
		t.Fatal(err)
	}
	return asker{t, client, conf}
}

func (a asker) traces(app, cluster string, shortest time.Duration, limit, want int) *model.TracingResponse {
	now := time.Now()
	query := models.TracingQuery{
		Start: now.Add(-time.Hour), End: now.Add(time.Minute),
		Tags:        map[string]string{models.IstioClusterTag: cluster},
		MinDuration: shortest, Limit: limit, Cluster: cluster,
	}
	service := tracingServiceName(true, domain, namespace, app)
	found, err := a.client.GetAppTraces(a.Context(), namespace, service, query)
	if err != nil {
		a.Fatal(err)
	}
	if len(found.Data) != want {
		a.Errorf("%s has %d traces in %s of %v and more, at most %d; not %d", service, len(found.Data), cluster, shortest, limit, want)
	}
	return found
}

// spans picks those that Kiali shows at a workload.
func (a asker) spans(found *model.TracingResponse, name models.TracingName) []model.TracingSpan {
	return tracesToSpans(a.Context(), name, found, wkdSpanFilter(a.Context(), namespace, name), a.conf)
}

func TestTracesOfTheProxies(t *testing.T) {
	// Over HTTP the end of an interval is a whole second.
	time.Sleep(1100 * time.Millisecond)
	isForKiali := os.Getenv("REPORT") == "kiali"
	for _, grpc := range []bool{false, true} {
		t.Run(fmt.Sprintf("grpc=%v", grpc), func(t *testing.T) {
			a := newAsker(t, grpc)
			services, err := a.client.GetServices(t.Context())
			if err != nil || !slices.Contains(services, "reviews.shop") || slices.Contains(services, "waypoint.shop") != isForKiali {
				t.Errorf("services %v, %v", services, err)
			}
			found := a.traces("reviews", "east", 0, 100, 2)
			a.traces("gateway", "east", 0, 100, 2)
			a.traces("reviews", "west", 0, 100, 0)
			a.traces("reviews", "east", time.Microsecond, 100, 2)
			a.traces("reviews", "east", time.Hour, 100, 0)
			a.traces("reviews", "east", 0, 1, 1)
			failed, err := a.client.GetErrorTraces(t.Context(), namespace, tracingServiceName(true, domain, namespace, "reviews"), time.Hour)
			if err != nil || failed != 1 {
				t.Errorf("%d failed requests, %v", failed, err)
			}
			for i := range found.Data {
				a.ofTrace(&found.Data[i], isForKiali)
			}
			workload := models.TracingName{App: "reviews", Lookup: "reviews", Workload: "reviews-v1"}
			spans := a.spans(found, workload)
			if len(spans) != 2 {
				t.Errorf("%d spans of the workload", len(spans))
			}
			for _, span := range spans {
				if span.Process.ServiceName != "reviews.shop" || span.TraceSize != spansOfTrace {
					t.Errorf("a span of the workload: %+v", span)
				}
			}
			if isForKiali {
				a.waypoint()
			}
		})
	}
}

// ofTrace checks the filters by workload and by service, and the page of one trace.
func (a asker) ofTrace(trace *jaegertypes.Trace, isForKiali bool) {
	for workload, want := range map[string]bool{"reviews-v1": true, "ratings-v1": false} {
		name := models.TracingName{App: "reviews", Lookup: "reviews", Workload: workload}
		if matchesWorkload(a.Context(), trace, namespace, name) != want {
			a.Errorf("the trace is of the workload %s: %v", workload, !want)
		}
	}
	for service, want := range map[string]bool{"reviews": isForKiali, "ratings": false} {
		has := false
		filter := operationSpanFilter(a.Context(), namespace, service)
		for i := range trace.Spans {
			has = filter(&trace.Spans[i]) || has
		}
		if has != want {
			a.Errorf("the trace is of the service %s: %v", service, has)
		}
	}
	one, err := a.client.GetTraceDetail(context.Background(), string(trace.TraceID))
	if err != nil || one == nil || len(one.Data.Spans) != spansOfTrace {
		a.Errorf("one trace: %+v, %v", one, err)
	}
}

// waypoint checks what Kiali shows of a waypoint's traces with `use_waypoint_name`.
func (a asker) waypoint() {
	found := a.traces("waypoint", "east", 0, 100, 2)
	for app, want := range map[string]bool{"reviews": true, "ratings": false} {
		name := models.TracingName{
			App: app, Lookup: "waypoint", WaypointName: "waypoint", WaypointNamespace: namespace, Workload: app + "-v1",
		}
		if spans := a.spans(found, name); len(spans) > 0 != want {
			a.Errorf("%d spans of %s at the waypoint", len(spans), app)
		}
	}
}
