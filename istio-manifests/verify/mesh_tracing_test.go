package verify

import (
	"slices"
	"strings"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	http "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"sigs.k8s.io/yaml"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/model"
)

const (
	overHTTP = "outbound|4318||otel-collector.observability.svc.cluster.local"
	overGRPC = "outbound|4317||otel-collector.observability.svc.cluster.local"
	outside  = "collector/external.yaml"
)

// clusterOf is the cluster that mesh_tracing is told to report to, or "".
func clusterOf(t *testing.T, m manifest) string {
	t.Helper()
	type plugin struct {
		PluginConfig struct {
			Report struct{ Cluster string }
		}
	}
	for _, document := range strings.Split(m.text, "\n---\n") {
		var resource struct {
			Spec struct {
				plugin
				Wasm plugin
			}
		}
		if err := yaml.Unmarshal([]byte(document), &resource); err != nil {
			t.Fatalf("%s: %v", m.path, err)
		}
		for _, p := range []plugin{resource.Spec.plugin, resource.Spec.Wasm} {
			if p.PluginConfig.Report.Cluster != "" {
				return p.PluginConfig.Report.Cluster
			}
		}
	}
	return ""
}

// clusters of a proxy by name, as istiod makes them.
func clusters(t *testing.T, m manifest, config *meshconfig.MeshConfig, kind model.NodeType, version string) map[string]*cluster.Cluster {
	t.Helper()
	generator := istiodOf(t, m, config)
	proxy := generator.SetupProxy(proxyOf(kind, version, selected(t, m)))
	found := map[string]*cluster.Cluster{}
	for _, c := range generator.Clusters(proxy) {
		found[c.GetName()] = c
	}
	return found
}

// knowing is the mesh configuration with a provider at the collector that nothing selects.
func knowing(config *meshconfig.MeshConfig) *meshconfig.MeshConfig {
	config.ExtensionProviders = append(config.ExtensionProviders, &meshconfig.MeshConfig_ExtensionProvider{
		Name: "mesh-tracing-collector",
		Provider: &meshconfig.MeshConfig_ExtensionProvider_Opentelemetry{
			Opentelemetry: &meshconfig.MeshConfig_ExtensionProvider_OpenTelemetryTracingProvider{
				Service: "otel-collector.observability.svc.cluster.local", Port: 4317,
			},
		},
	})
	return config
}

// Every proxy knows the cluster under the name that the plugin is told; a waypoint only with the provider of the README.
func TestTheCollectorsClusterIsIstios(t *testing.T) {
	seen := 0
	for _, m := range readManifests(t) {
		name := clusterOf(t, m)
		if name == "" || newerThan(m.text) {
			continue
		}
		seen++
		if name != overHTTP {
			t.Errorf("%s: %s", m.path, name)
		}
		for _, version := range proxiesOf(m.text) {
			for _, kind := range []model.NodeType{model.SidecarProxy, model.Router, model.Waypoint} {
				alone := clusters(t, m, meshConfig(tracer(m)), kind, version)
				if has := alone[name] != nil; has == (kind == model.Waypoint) {
					t.Errorf("%s: %s of %s: it knows the collector: %v", m.path, kind, version, has)
				}
				known := clusters(t, m, knowing(meshConfig(tracer(m))), kind, version)
				if known[overHTTP] == nil || known[overGRPC] == nil {
					t.Errorf("%s: %s of %s does not know the collector", m.path, kind, version)
				}
				// As report.protocol "grpc" needs it.
				if speaksHTTP2(known[overHTTP]) || !speaksHTTP2(known[overGRPC]) {
					t.Errorf("%s: %s of %s: the port's name does not decide", m.path, kind, version)
				}
			}
		}
	}
	if seen < 6 {
		t.Fatalf("only %d manifests report", seen)
	}
}

// The collector outside of the mesh is reached over TLS, under the name that its file says.
func TestTheOutsideCollectorIsACluster(t *testing.T) {
	all := readManifests(t)
	at := slices.IndexFunc(all, func(m manifest) bool { return m.path == outside })
	if at < 0 {
		t.Fatalf("%s is missing", outside)
	}
	m := all[at]
	for _, kind := range []model.NodeType{model.SidecarProxy, model.Router} {
		for _, port := range []string{"4318", "4317"} {
			name := "outbound|" + port + "||otel.example.com"
			found := clusters(t, m, meshConfig(tracer(m)), kind, strings.Split(*proxies, ",")[0])[name]
			if found == nil {
				t.Fatalf("%s: no %s", kind, name)
			}
			if !strings.Contains(m.text, name) {
				t.Errorf("%s does not say %s", outside, name)
			}
			tls := found.GetTransportSocket().GetName() == "envoy.transport_sockets.tls"
			for _, match := range found.GetTransportSocketMatches() {
				tls = tls || match.GetTransportSocket().GetName() == "envoy.transport_sockets.tls"
			}
			if !tls {
				t.Errorf("%s: %s is not over TLS: %v", kind, name, found)
			}
		}
	}
}

func speaksHTTP2(c *cluster.Cluster) bool {
	for _, options := range c.GetTypedExtensionProtocolOptions() {
		protocol := &http.HttpProtocolOptions{}
		if options.UnmarshalTo(protocol) == nil && protocol.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil {
			return true
		}
	}
	return false
}
