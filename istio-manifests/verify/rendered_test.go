package verify

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What `meshtrace render` is asked for: filters with their configurations, beside which tracers, for which proxies.
var renderings = []struct {
	name    string
	filters []string
	tracers []string
	roles   []string
}{
	{"context", []string{"trace-context", "{}"}, []string{"opentelemetry", "zipkin"}, []string{"sidecar", "gateway"}},
	{"context", []string{"trace-context", "{}"}, []string{"zipkin-with-w3c", "none"}, []string{"sidecar", "gateway", "waypoint"}},
	{"edge", []string{"trace-context", `{"incoming": "restart"}`}, []string{"opentelemetry"}, []string{"sidecar", "gateway"}},
	{"headers", []string{"trace-context", `{"request_headers": "filter_state"}`}, []string{"none"}, []string{"sidecar", "gateway"}},
	{"attributes", []string{"span-attributes", `{"emit": {"request_header_prefix": "x-span-attr-"}}`}, []string{"opentelemetry"}, []string{"sidecar", "gateway", "waypoint"}},
	{"log", []string{"access-log-trace", "{}"}, []string{"zipkin"}, []string{"sidecar", "gateway", "waypoint"}},
	{"all", []string{
		"trace-context", "{}",
		"route-sampling", `{"default": {"ratio": 0.5}, "ids": {"trace_id_header": "x-active-trace-id"}}`,
		"span-attributes", `{"emit": {"request_header_prefix": "x-span-attr-"}}`,
		"access-log-trace", `{"ids": {"trace_id_header": "x-active-trace-id", "span_id_header": "x-active-span-id"}}`,
	}, []string{"opentelemetry", "zipkin", "zipkin-with-w3c"}, []string{"sidecar", "gateway"}},
	{"tracer", []string{
		"mesh-tracing", `{"trace_context": {}, "access_log": {}, "report": {"cluster": "outbound|4318||otel-collector.observability.svc.cluster.local"}}`,
	}, []string{"none"}, []string{"sidecar", "gateway", "waypoint"}},
}

// renderedManifests are the answers of the command line for the versions of the proxies of this run.
func renderedManifests(t *testing.T) []manifest {
	t.Helper()
	folder := t.TempDir()
	var all []manifest
	for _, version := range strings.Split(*proxies, ",") {
		minor := version[:strings.LastIndex(version, ".")]
		for _, r := range renderings {
			arguments := []string{"render", "--istio", minor}
			for i, filter := range r.filters {
				if i%2 == 0 {
					arguments = append(arguments, filter)
					continue
				}
				file := filepath.Join(folder, fmt.Sprintf("%s-%d.json", r.name, i))
				if err := os.WriteFile(file, []byte(filter), 0o600); err != nil {
					t.Fatal(err)
				}
				arguments = append(arguments, file)
			}
			for _, tracer := range r.tracers {
				for _, role := range r.roles {
					output, err := exec.Command(*meshtrace, slices.Concat(arguments, []string{"--tracer", tracer, "--for", role})...).CombinedOutput()
					if err != nil {
						t.Fatalf("%s %s %s %s: %v: %s", r.name, minor, tracer, role, err, output)
					}
					path := fmt.Sprintf("rendered/%s-%s-%s-%s.yaml", r.name, minor, tracer, role)
					all = append(all, manifest{path, string(output)})
				}
			}
		}
	}
	return all
}
