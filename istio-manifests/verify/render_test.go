package verify

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	wasmfilter "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	"istio.io/istio/pilot/pkg/config/kube/extensions"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/kube/krt"
	"istio.io/istio/pkg/util/protomarshal"
	"istio.io/istio/pkg/wasm"
)

// rendered is what one connection manager of one proxy is made of.
type rendered struct {
	Istiod   string `json:"istiod"`
	Proxy    string `json:"proxy"`
	Manifest string `json:"manifest"`
	// Of the resources in the manifest.
	Kinds []string `json:"kinds"`
	// sidecar-inbound, sidecar-outbound, gateway or waypoint
	Place string `json:"place"`
	// Of the listener: INBOUND or OUTBOUND.
	Direction string          `json:"direction"`
	Manager   json.RawMessage `json:"manager"`
	// The routes, where the manager asks for them by name.
	Routes []json.RawMessage `json:"routes"`
	// By name, as the agent hands them to Envoy.
	Extensions map[string]json.RawMessage `json:"extensions"`
}

// tracer is the provider that the mesh has beside a manifest: what its head names, and for a file that stands beside any
// tracer, OpenTelemetry's. A Telemetry selects its own.
func tracer(m manifest) string {
	name := head(m.text, "Tracer")
	switch {
	case name == "", strings.HasPrefix(m.path, "telemetry/"):
		return "none"
	case name == "any":
		return "otel"
	}
	return name
}

func meshConfig(tracer string) *meshconfig.MeshConfig {
	m := mesh.DefaultMeshConfig()
	m.RootNamespace = "istio-system"
	m.EnableTracing = true
	// A flag that falls as the dice do cannot be compared.
	m.DefaultConfig.Tracing = &meshconfig.Tracing{Sampling: 100}
	const collector = "collector.default.svc.cluster.local"
	m.ExtensionProviders = []*meshconfig.MeshConfig_ExtensionProvider{
		{Name: "zipkin", Provider: &meshconfig.MeshConfig_ExtensionProvider_Zipkin{
			Zipkin: &meshconfig.MeshConfig_ExtensionProvider_ZipkinTracingProvider{
				Service: collector, Port: 9411,
				TraceContextOption: meshconfig.MeshConfig_ExtensionProvider_ZipkinTracingProvider_USE_B3_WITH_W3C_PROPAGATION,
			},
		}},
		{Name: "zipkin-b3", Provider: &meshconfig.MeshConfig_ExtensionProvider_Zipkin{
			Zipkin: &meshconfig.MeshConfig_ExtensionProvider_ZipkinTracingProvider{Service: collector, Port: 9411},
		}},
		{Name: "otel", Provider: &meshconfig.MeshConfig_ExtensionProvider_Opentelemetry{
			Opentelemetry: &meshconfig.MeshConfig_ExtensionProvider_OpenTelemetryTracingProvider{
				Service: collector, Port: 4317,
			},
		}},
		{Name: "json-log", Provider: &meshconfig.MeshConfig_ExtensionProvider_EnvoyFileAccessLog{
			EnvoyFileAccessLog: &meshconfig.MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider{
				Path: "/dev/stdout",
				LogFormat: &meshconfig.MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider_LogFormat{
					LogFormat: &meshconfig.MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider_LogFormat_Labels{
						Labels: &structpb.Struct{Fields: map[string]*structpb.Value{
							"trace_id": structpb.NewStringValue("%TRACE_ID%"),
						}},
					},
				},
			},
		}},
	}
	if tracer != "none" {
		m.DefaultProviders = &meshconfig.MeshConfig_DefaultProviders{Tracing: []string{tracer}}
	}
	return m
}

// istiodWith is istiod's generator over the mesh and one manifest.
func istiodWith(t *testing.T, m manifest) *core.ConfigGenTest {
	t.Helper()
	return istiodOf(t, m, meshConfig(tracer(m)))
}

// istiodOf is the same with another mesh configuration.
func istiodOf(t *testing.T, m manifest, config *meshconfig.MeshConfig) *core.ConfigGenTest {
	t.Helper()
	fixture, err := os.ReadFile("mesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return core.NewConfigGenTest(t, core.TestOptions{
		ConfigString: string(fixture) + "\n---\n" + m.text,
		MeshConfig:   config,
		CreateConfigStore: func(c model.ConfigStoreController) model.ConfigStoreController {
			// It makes TrafficExtensions of WasmPlugins.
			return extensions.NewController(c, nil, krt.GlobalDebugHandler)
		},
	})
}

// gatewayName is the label by which a proxy belongs to a Gateway of the Gateway API.
const gatewayName = "gateway.networking.k8s.io/gateway-name"

// selected has the labels that the resources of a manifest ask for.
func selected(t *testing.T, m manifest) map[string]string {
	labels := map[string]string{"app": "app"}
	add := func(more map[string]string) {
		for key, value := range more {
			labels[key] = value
		}
	}
	for _, c := range m.parse(t) {
		if filter, ok := c.Spec.(*networking.EnvoyFilter); ok {
			add(filter.GetWorkloadSelector().GetLabels())
			continue
		}
		encoded, err := protomarshal.ToJSON(c.Spec.(proto.Message))
		if err != nil {
			t.Fatal(err)
		}
		var spec struct {
			Selector struct{ MatchLabels map[string]string }
		}
		if err := json.Unmarshal([]byte(encoded), &spec); err != nil {
			t.Fatal(err)
		}
		add(spec.Selector.MatchLabels)
	}
	return labels
}

func proxyOf(kind model.NodeType, version string, labels map[string]string) *model.Proxy {
	labels = maps.Clone(labels)
	// What a selector asks for is nobody's label but a gateway's, or a waypoint's.
	if kind == model.Router {
		labels["istio"] = "ingressgateway"
	} else {
		delete(labels, "istio")
	}
	if kind == model.Waypoint {
		labels["gateway.istio.io/managed"] = "istio.io-mesh-controller"
		// Every waypoint belongs to a Gateway; that one is what the manifests name.
		labels[gatewayName] = "waypoint"
	} else {
		delete(labels, gatewayName)
	}
	return &model.Proxy{
		Type: kind, ConfigNamespace: "default", IPAddresses: []string{"10.0.0.1"}, Labels: labels,
		Metadata: &model.NodeMetadata{Namespace: "default", Labels: labels, IstioVersion: version},
	}
}

// The place of a listener, or "" for those that carry nothing of the application's.
func place(kind model.NodeType, l *listener.Listener, chain string) string {
	switch {
	// By the service's target port, which the fixture has the gateway share with the application.
	case kind == model.Router && l.GetName() == "0.0.0.0_8080":
		return "gateway"
	case kind == model.SidecarProxy && l.GetName() == "virtualInbound" && strings.HasSuffix(chain, "_8080"),
		kind == model.SidecarProxy && l.GetName() == "virtualInbound" && strings.HasSuffix(chain, "_8080;"):
		return "sidecar-inbound"
	case kind == model.SidecarProxy && l.GetName() == "0.0.0.0_80":
		return "sidecar-outbound"
	case kind == model.Waypoint && l.GetName() == "main_internal" && chain == "direct-http":
		return "waypoint"
	}
	return ""
}

func TestRender(t *testing.T) {
	if *out == "" || *istiod == "" {
		t.Fatal("-out and -istiod are needed")
	}
	store := startRegistry(t, "")
	pinned := push(t, store, t.TempDir())
	cache := wasm.NewLocalFileCache(filepath.Join(mkdir(t, *out), "modules"), wasm.Options{})
	mkdir(t, filepath.Join(*out, "modules"))
	defer cache.Cleanup()

	render := func(m manifest, versions []string) {
		m.text = here(m.text, store.address, pinned)
		places := map[string]bool{}
		var kinds []string
		for _, c := range m.parse(t) {
			kinds = append(kinds, c.GroupVersionKind.Kind)
		}
		generator := istiodWith(t, m)
		for _, version := range versions {
			for _, kind := range []model.NodeType{model.SidecarProxy, model.Router, model.Waypoint} {
				proxy := generator.SetupProxy(proxyOf(kind, version, selected(t, m)))
				for _, r := range renderProxy(t, generator, proxy, cache) {
					r.Istiod, r.Proxy, r.Manifest, r.Kinds = *istiod, version, m.path, kinds
					places[r.Place] = true
					save(t, m.name()+"_"+version+"_"+r.Place, r)
				}
			}
		}
		for _, expected := range []string{"sidecar-inbound", "sidecar-outbound", "gateway", "waypoint"} {
			if !places[expected] {
				t.Errorf("%s: nothing was rendered for %s", m.path, expected)
			}
		}
	}
	for _, m := range append(readManifests(t), renderedManifests(t)...) {
		if versions := proxiesOf(m.text); !newerThan(m.text) && len(versions) > 0 {
			render(m, versions)
		}
	}
	for _, version := range strings.Split(*proxies, ",") {
		render(together(t, version), []string{version})
	}
}

func mkdir(t *testing.T, folder string) string {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return folder
}

// here replaces what a user of the manifests replaces too: the registry, the digest, the mounted file.
func here(text, registry string, pinned map[string]string) string {
	text = strings.ReplaceAll(text, "registry.example.com", registry)
	for name, digest := range pinned {
		text = pin(text, name, digest)
	}
	return strings.ReplaceAll(text, "/etc/meshtrace/", *checkout+"/dist/")
}

// pin puts a digest into the `sha256` beside a URL of this image.
func pin(text, name, digest string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		before, _, found := strings.Cut(line, "sha256: ")
		if found && strings.TrimSpace(before) == "" && strings.Contains(urlBeside(lines, i), "/"+name+":") {
			lines[i] = before + fmt.Sprintf("sha256: %q", strings.TrimPrefix(digest, "sha256:"))
		}
	}
	return strings.Join(lines, "\n")
}

// urlBeside is the nearest line with a URL: files are written with it above, `meshtrace render` sorts keys.
func urlBeside(lines []string, i int) string {
	for distance := 1; distance < len(lines); distance++ {
		for _, j := range []int{i - distance, i + distance} {
			if j >= 0 && j < len(lines) && strings.Contains(lines[j], "oci://") {
				return lines[j]
			}
		}
	}
	return ""
}

func renderProxy(t *testing.T, generator *core.ConfigGenTest, proxy *model.Proxy, cache wasm.Cache) []rendered {
	t.Helper()
	var all []rendered
	seen := map[string]bool{}
	for _, l := range generator.Listeners(proxy) {
		chains := slices.Clone(l.GetFilterChains())
		if l.GetDefaultFilterChain() != nil {
			chains = append(chains, l.GetDefaultFilterChain())
		}
		for _, chain := range chains {
			where := place(proxy.Type, l, chain.GetName())
			for _, filter := range chain.GetFilters() {
				manager := &hcm.HttpConnectionManager{}
				if where == "" || seen[where] || !filter.GetTypedConfig().MessageIs(manager) {
					continue
				}
				if err := filter.GetTypedConfig().UnmarshalTo(manager); err != nil {
					t.Fatal(err)
				}
				seen[where] = true
				all = append(all, rendered{
					Place: where, Direction: l.GetTrafficDirection().String(), Manager: encode(t, manager),
					Routes:     routes(t, generator, proxy, manager),
					Extensions: discovered(t, generator, proxy, manager, cache),
				})
			}
		}
	}
	return all
}

func routes(t *testing.T, generator *core.ConfigGenTest, proxy *model.Proxy, manager *hcm.HttpConnectionManager) []json.RawMessage {
	t.Helper()
	name := manager.GetRds().GetRouteConfigName()
	if name == "" {
		return nil
	}
	resources, _ := generator.ConfigGen.BuildHTTPRoutes(proxy, &model.PushRequest{Push: generator.PushContext()}, []string{name})
	var found []json.RawMessage
	for _, resource := range resources {
		message, err := resource.GetResource().UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, encode(t, message))
	}
	return found
}

// discovered is what the proxy asks for by ECDS, after the agent has fetched the modules.
func discovered(t *testing.T, generator *core.ConfigGenTest, proxy *model.Proxy, manager *hcm.HttpConnectionManager, cache wasm.Cache) map[string]json.RawMessage {
	t.Helper()
	encoded, err := protomarshal.ToJSON(manager)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var tree any
	if err := json.Unmarshal([]byte(encoded), &tree); err != nil {
		t.Fatal(err)
	}
	collect(tree, &names)
	found := map[string]json.RawMessage{}
	for _, extension := range generator.ConfigGen.BuildExtensionConfiguration(proxy, generator.PushContext(), names, nil) {
		resource, err := anypb.New(extension)
		if err != nil {
			t.Fatal(err)
		}
		resources := []*anypb.Any{resource}
		if err := wasm.MaybeConvertWasmExtensionConfig(resources, cache); err != nil {
			t.Fatalf("%s: %v", extension.GetName(), err)
		}
		converted := &corev3.TypedExtensionConfig{}
		if err := resources[0].UnmarshalTo(converted); err != nil {
			t.Fatal(err)
		}
		found[extension.GetName()] = encode(t, withoutEmptyAny(t, converted))
		if strings.Contains(string(found[extension.GetName()]), wasm.DefaultAllowStatPrefix) {
			t.Errorf("%s was not fetched: is there an image of this filter?", extension.GetName())
		}
	}
	for _, name := range names {
		if found[name] == nil {
			t.Errorf("%s: %s is asked for, and istiod has none", proxy.Type, name)
		}
	}
	return found
}

// withoutEmptyAny drops a configuration without a type, which an empty pluginConfig becomes: Envoy takes it, JSON has no
// form for it.
func withoutEmptyAny(t *testing.T, extension *corev3.TypedExtensionConfig) *corev3.TypedExtensionConfig {
	t.Helper()
	filter := &wasmfilter.Wasm{}
	if !extension.GetTypedConfig().MessageIs(filter) {
		return extension
	}
	if err := extension.GetTypedConfig().UnmarshalTo(filter); err != nil {
		t.Fatal(err)
	}
	if filter.GetConfig().GetConfiguration().GetTypeUrl() == "" {
		filter.GetConfig().Configuration = nil
	}
	typed, err := anypb.New(filter)
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.TypedExtensionConfig{Name: extension.GetName(), TypedConfig: typed}
}

// collect gathers the names of filters that are discovered, wherever they are.
func collect(tree any, names *[]string) {
	switch value := tree.(type) {
	case map[string]any:
		if _, found := value["configDiscovery"]; found {
			*names = append(*names, value["name"].(string))
		}
		for _, inner := range value {
			collect(inner, names)
		}
	case []any:
		for _, inner := range value {
			collect(inner, names)
		}
	}
}

func encode(t *testing.T, message proto.Message) json.RawMessage {
	t.Helper()
	text, err := protomarshal.ToJSON(message)
	if err != nil {
		t.Fatalf("%v: %v", err, message)
	}
	return json.RawMessage(text)
}

func save(t *testing.T, name string, r rendered) {
	t.Helper()
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*out, name+".json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

const fetchLimit = 30 * time.Second
