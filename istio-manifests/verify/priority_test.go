package verify

import (
	"slices"
	"strings"
	"testing"

	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pkg/wasm"
	"sigs.k8s.io/yaml"
)

// together is one manifest of all EnvoyFilters that a pod with every label takes beside the OpenTelemetry tracer. The
// ones that are to be applied last are the oldest, and one of them is in the root namespace: without a priority they would
// be the first.
func together(t *testing.T, version string) manifest {
	t.Helper()
	var filters []manifest
	for _, m := range readManifests(t) {
		beside := slices.Contains([]string{"otel", "none"}, head(m.text, "Tracer"))
		if beside && strings.Contains(m.text, "kind: EnvoyFilter") && !strings.Contains(m.path, "-image") &&
			slices.Contains(proxiesOf(m.text), version) {
			filters = append(filters, m)
		}
	}
	slices.SortFunc(filters, func(a, b manifest) int { return priorityOf(t, b) - priorityOf(t, a) })
	var texts []string
	for i, m := range filters {
		created := "metadata:\n  creationTimestamp: 2026-01-0" + string(rune('1'+i)) + "T00:00:00Z"
		if strings.HasPrefix(m.path, "envoyfilter/route-sampling") {
			created += "\n  namespace: istio-system"
		}
		texts = append(texts, strings.Replace(m.text, "metadata:", created, 1))
	}
	if len(texts) != 5 {
		t.Fatalf("%d EnvoyFilters for proxies of %s", len(texts), version)
	}
	return manifest{"together.yaml", "# Istio: 1.28 to 1.31\n# Tracer: otel\n" + strings.Join(texts, "\n---\n")}
}

func priorityOf(t *testing.T, m manifest) int {
	t.Helper()
	var filter struct{ Spec struct{ Priority int } }
	if err := yaml.Unmarshal([]byte(m.text), &filter); err != nil {
		t.Fatalf("%s: %v", m.path, err)
	}
	if filter.Spec.Priority == 0 {
		t.Errorf("%s has no priority", m.path)
	}
	return filter.Spec.Priority
}

// orderOf is the order of our pieces in a sidecar's inbound connection manager: the early mutations, then the filters.
func orderOf(t *testing.T, m manifest, version string) []string {
	t.Helper()
	generator := istiodWith(t, m)
	proxy := generator.SetupProxy(proxyOf(model.SidecarProxy, version, selected(t, m)))
	for _, r := range renderProxy(t, generator, proxy, wasm.NewLocalFileCache(t.TempDir(), wasm.Options{})) {
		if r.Place != "sidecar-inbound" {
			continue
		}
		type named struct{ Name string }
		var manager struct {
			EarlyHeaderMutationExtensions, HttpFilters []named
		}
		if err := yaml.Unmarshal(r.Manager, &manager); err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, one := range append(manager.EarlyHeaderMutationExtensions, manager.HttpFilters...) {
			if strings.HasPrefix(one.Name, "meshtrace") {
				order = append(order, one.Name)
			}
		}
		return order
	}
	t.Fatalf("%s: nothing inbound", m.path)
	return nil
}

// Istio applies EnvoyFilters by their priority and not by their age.
func TestPrioritiesAreTheOrder(t *testing.T) {
	expected := []string{
		"meshtrace-trace-context", "meshtrace-route-sampling",
		"meshtrace.trace_context_downstream", "meshtrace.expose_ids", "meshtrace.access_log_trace",
	}
	for _, version := range strings.Split(*proxies, ",") {
		m := together(t, version)
		if order := orderOf(t, m, version); !slices.Equal(order, expected) {
			t.Errorf("proxies of %s: %v", version, order)
		}
		var without []string
		for _, line := range strings.Split(m.text, "\n") {
			if !strings.HasPrefix(line, "  priority: ") {
				without = append(without, line)
			}
		}
		m.text = strings.Join(without, "\n")
		if order := orderOf(t, m, version); slices.Equal(order, expected) {
			t.Errorf("proxies of %s: without priorities too", version)
		}
	}
}
