package verify

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"istio.io/istio/pilot/pkg/model"
	crdvalidation "istio.io/istio/pkg/config/crd"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/wasm"
)

// The services that examples/traffic names.
const services = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop, namespace: default}
spec:
  hosts: [shop.default.svc.cluster.local]
  addresses: [10.1.0.4]
  ports: [{number: 80, name: http, protocol: HTTP}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{address: 10.0.0.4, labels: {version: v1}}, {address: 10.0.0.5, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: checkout, namespace: default}
spec:
  hosts: [checkout.default.svc.cluster.local]
  addresses: [10.1.0.5]
  ports: [{number: 80, name: http, protocol: HTTP}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{address: 10.0.0.6, labels: {version: blue}}, {address: 10.0.0.7, labels: {version: green}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shadow, namespace: default}
spec:
  hosts: [shadow.default.svc.cluster.local]
  addresses: [10.1.0.6]
  ports: [{number: 80, name: http, protocol: HTTP}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{address: 10.0.0.8}]
`

// What a file makes of a proxy: where its plugin is, and what is in the routes beside.
var traffic = []struct {
	file, place string
	kind        model.NodeType
	routes      []string
}{
	{"canary", "gateway", model.Router, []string{
		`"name":"preview"`, `"name":"variant-new"`, `"weight":90`, `"weight":10`, `"outbound|80|v2|shop.default.svc.cluster.local"`,
		`"outbound|80|green|checkout.default.svc.cluster.local"`,
	}},
	{"faults", "sidecar-outbound", model.SidecarProxy, []string{`"fixedDelay":"0.700s"`, `"httpStatus":503`}},
	{"mirror", "sidecar-inbound", model.SidecarProxy, nil},
	{"multicluster", "gateway", model.Router, nil},
}

// Istio's code takes every file of examples/traffic, and makes of it what the file beside says for Envoy. What it makes is
// run by .make/mesh/traffic.py.
func TestTrafficIsRoutedAsTheExamplesSay(t *testing.T) {
	store := startRegistry(t, "")
	pinned := push(t, store, t.TempDir())
	cache := wasm.NewLocalFileCache(mkdir(t, filepath.Join(*out, "modules")), wasm.Options{})
	defer cache.Cleanup()
	folder := filepath.Join(*checkout, "examples/traffic")
	files, err := filepath.Glob(filepath.Join(folder, "istio-*.yaml"))
	if err != nil || len(files) != len(traffic) {
		t.Fatalf("%v, %v", files, err)
	}
	validator := crdvalidation.NewIstioValidator(t)
	for _, example := range traffic {
		text, err := os.ReadFile(filepath.Join(folder, "istio-"+example.file+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		m := manifest{example.file + ".yaml", string(text)}
		if err := validator.ValidateCustomResourceYAML(m.text, nil); err != nil {
			t.Errorf("%s: %v", example.file, err)
		}
		for _, c := range m.parse(t) {
			schema, found := collections.All.FindByGroupVersionAliasesKind(c.GroupVersionKind)
			if !found {
				t.Fatalf("%s: %v", example.file, c.GroupVersionKind)
			}
			if warning, err := schema.ValidateConfig(c); err != nil || warning != nil {
				t.Errorf("%s: %v, %v", example.file, err, warning)
			}
		}
		m.text = here(strings.ReplaceAll(m.text, "metadata:\n", "metadata:\n  namespace: default\n"), store.address, pinned)
		for _, version := range strings.Split(*proxies, ",") {
			labels := selected(t, m)
			m := manifest{m.path, m.text + "\n---\n" + services}
			generator := istiodOf(t, m, meshConfig("otel"))
			proxy := generator.SetupProxy(proxyOf(example.kind, version, labels))
			reached := false
			for _, r := range renderProxy(t, generator, proxy, cache) {
				// The gateway's listener of the fixture has no part in the east-west gateway.
				if r.Place != example.place {
					continue
				}
				reached = true
				if len(r.Extensions) != 1 || strings.Contains(string(r.Manager), "opentelemetry") {
					t.Errorf("%s: %d plugins, and the manager %s", example.file, len(r.Extensions), r.Manager)
				}
				var routes []string
				for _, route := range r.Routes {
					routes = append(routes, string(route))
				}
				made := strings.ReplaceAll(strings.Join(routes, "\n"), " ", "")
				for _, part := range example.routes {
					if !strings.Contains(made, part) {
						t.Errorf("%s for %s: no %s in %s", example.file, version, part, made)
					}
				}
				saveTraffic(t, r, example.file, version, m.path)
			}
			if !reached {
				t.Errorf("%s: nothing was rendered", example.file)
			}
		}
	}
}

func saveTraffic(t *testing.T, r rendered, file, version, path string) {
	t.Helper()
	r.Istiod, r.Proxy, r.Manifest = *istiod, version, path
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Join([]string{file, version}, "_")
	if err := os.WriteFile(filepath.Join(mkdir(t, filepath.Join(*out, "traffic")), name+".json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The copy of a request goes where the file says, and the gateway between two clusters ends TLS and routes.
func TestMirrorsAndClustersAreInTheRoutes(t *testing.T) {
	for file, expected := range map[string][]string{
		"mirror":       {"requestMirrorPolicies", "outbound|80||shadow.default.svc.cluster.local", "outbound|80||shop.default.svc.cluster.local"},
		"multicluster": {"shop.west.example.com", "outbound|80||shop.default.svc.cluster.local"},
	} {
		text, err := os.ReadFile(filepath.Join(*checkout, "examples/traffic/istio-"+file+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		m := manifest{file + ".yaml", strings.ReplaceAll(string(text), "metadata:\n", "metadata:\n  namespace: default\n")}
		labels := selected(t, m)
		m.text += "\n---\n" + services
		generator := istiodOf(t, m, meshConfig("otel"))
		proxy := generator.SetupProxy(proxyOf(model.Router, strings.Split(*proxies, ",")[0], labels))
		made := ""
		for _, route := range generator.Routes(proxy) {
			made += string(encode(t, route))
		}
		for _, part := range expected {
			if !strings.Contains(made, part) {
				t.Errorf("%s: no %s in %s", file, part, made)
			}
		}
		if file != "multicluster" {
			continue
		}
		ends := slices.ContainsFunc(generator.Listeners(proxy), func(l *listener.Listener) bool {
			return strings.HasSuffix(l.GetName(), "_15443") && strings.Contains(string(encode(t, l)), "requireClientCertificate")
		})
		if !ends {
			t.Errorf("%s: the gateway does not end TLS", file)
		}
		sidecar := generator.SetupProxy(proxyOf(model.SidecarProxy, strings.Split(*proxies, ",")[0], labels))
		calls := slices.ContainsFunc(generator.Clusters(sidecar), func(c *cluster.Cluster) bool {
			return c.GetName() == "outbound|80||shop.west.example.com" && strings.Contains(string(encode(t, c)), "UpstreamTlsContext")
		})
		if !calls {
			t.Errorf("%s: east does not call west over TLS", file)
		}
	}
}
