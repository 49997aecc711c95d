package verify

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/wasm"
	"sigs.k8s.io/yaml"
)

// A place in which an authoriser is asked, and the ending of the files for it.
var authorised = []struct {
	kind          model.NodeType
	place, ending string
}{
	{model.SidecarProxy, "sidecar-inbound", ""},
	{model.Router, "gateway", "-gateway"},
	{model.Waypoint, "waypoint", "-waypoint"},
}

// blocksOf are the YAML blocks of a page.
func blocksOf(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(*checkout, page))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, part := range strings.Split(string(text), "```yaml\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	return blocks
}

// authorisers are the providers of the page, its policy for this place, and the services that the providers name.
func authorisers(t *testing.T, place string) ([]*meshconfig.MeshConfig_ExtensionProvider, string) {
	t.Helper()
	var providers []*meshconfig.MeshConfig_ExtensionProvider
	policy := ""
	for _, block := range blocksOf(t, "docs/ext-authz.md") {
		if strings.HasPrefix(block, "extensionProviders:") {
			config, err := mesh.ApplyMeshConfigDefaults(block)
			if err != nil {
				t.Fatal(err)
			}
			for _, provider := range config.ExtensionProviders {
				// Beside those that every mesh has.
				if strings.HasPrefix(provider.Name, "sample-") {
					providers = append(providers, provider)
				}
			}
		}
		if strings.Contains(block, "kind: AuthorizationPolicy") {
			policy = block
		}
	}
	if len(providers) != 2 || policy == "" {
		t.Fatalf("%d providers, and the policy %q", len(providers), policy)
	}
	label := "meshtrace-ext-authz: enabled"
	if !strings.Contains(policy, label) {
		t.Fatalf("no label in %s", policy)
	}
	switch place {
	case "gateway":
		policy = strings.Replace(policy, label, "istio: ingressgateway", 1)
	case "waypoint":
		policy = strings.Replace(policy, "  selector:\n    matchLabels:\n      "+label+"\n",
			"  targetRefs:\n  - {group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}\n", 1)
	}
	policy = strings.Replace(policy, "metadata:", "metadata:\n  namespace: default", 1)
	return providers, policy + `
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext-authz, namespace: foo}
spec:
  hosts: [ext-authz.foo.svc.cluster.local]
  addresses: [10.1.0.9]
  ports: [{number: 8000, name: http, protocol: HTTP}, {number: 9000, name: grpc, protocol: GRPC}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{address: 10.0.0.9}]
`
}

func readManifest(t *testing.T, path string) manifest {
	t.Helper()
	all := readManifests(t)
	at := slices.IndexFunc(all, func(m manifest) bool { return m.path == path })
	if at < 0 {
		t.Fatalf("%s is missing", path)
	}
	return all[at]
}

// In front of an authoriser over gRPC and over HTTP, in every place: the filter comes first, the call over gRPC has its
// metadata, and one over HTTP is as it was.
func TestTheFilterIsInFrontOfTheAuthoriser(t *testing.T) {
	store := startRegistry(t, "")
	pinned := push(t, store, t.TempDir())
	folder := mkdir(t, filepath.Join(*out, "modules"))
	cache := wasm.NewLocalFileCache(folder, wasm.Options{})
	defer cache.Cleanup()
	for _, version := range strings.Split(*proxies, ",") {
		for _, at := range authorised {
			providers, policy := authorisers(t, at.place)
			for _, provider := range providers {
				grpc := provider.GetEnvoyExtAuthzGrpc() != nil
				m := readManifest(t, "ext-authz/mesh-tracing"+at.ending+".yaml")
				if grpc {
					m.text += "\n---\n" + readManifest(t, "ext-authz/check-metadata"+at.ending+".yaml").text
				}
				m.text = here(m.text, store.address, pinned) + "\n---\n" +
					strings.Replace(policy, "sample-ext-authz-grpc", provider.Name, 1)
				config := meshConfig("otel")
				config.ExtensionProviders = append(config.ExtensionProviders, providers...)
				generator := istiodOf(t, m, knowing(config))
				proxy := generator.SetupProxy(proxyOf(at.kind, version, selected(t, m)))
				reached := false
				for _, r := range renderProxy(t, generator, proxy, cache) {
					if r.Place != at.place {
						continue
					}
					reached = true
					looksRight(t, r, provider.Name, grpc)
					r.Istiod, r.Proxy, r.Manifest = *istiod, version, m.path
					text, err := json.MarshalIndent(r, "", " ")
					if err != nil {
						t.Fatal(err)
					}
					name := strings.Join([]string{*istiod, version, at.place, provider.Name}, "_")
					if err := os.WriteFile(filepath.Join(mkdir(t, filepath.Join(*out, "ext-authz")), name+".json"), text, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if !reached {
					t.Errorf("%s: nothing was rendered", at.place)
				}
			}
		}
	}
}

func looksRight(t *testing.T, r rendered, provider string, grpc bool) {
	t.Helper()
	var manager struct {
		Tracing     json.RawMessage
		HttpFilters []struct {
			Name        string
			TypedConfig struct {
				GrpcService *struct {
					EnvoyGrpc       struct{ ClusterName string }
					InitialMetadata []struct{ Key, Value string }
				}
				HttpService *struct{ ServerUri struct{ Cluster string } }
			}
		}
	}
	if err := yaml.Unmarshal(r.Manager, &manager); err != nil {
		t.Fatal(err)
	}
	if len(manager.Tracing) > 0 {
		t.Errorf("%s: there is a tracer beside the filter", r.Place)
	}
	if first := manager.HttpFilters[0].Name; !strings.HasPrefix(first, "meshtrace.mesh_tracing_ext_authz") || len(r.Extensions) != 1 {
		t.Errorf("%s: %s is first, of %d extensions", r.Place, first, len(r.Extensions))
	}
	found := 0
	for _, filter := range manager.HttpFilters {
		if filter.Name != "envoy.filters.http.ext_authz" {
			continue
		}
		found++
		over := filter.TypedConfig.GrpcService
		if (over != nil) != grpc || (filter.TypedConfig.HttpService != nil) == grpc {
			t.Errorf("%s: the authoriser of %s is asked otherwise: %+v", r.Place, provider, filter)
			continue
		}
		if grpc && (over.EnvoyGrpc.ClusterName == "" || len(over.InitialMetadata) != 1 || over.InitialMetadata[0].Key != "traceparent") {
			t.Errorf("%s: the call of the check has %+v", r.Place, over)
		}
	}
	if found != 1 {
		t.Errorf("%s: %d authorisers", r.Place, found)
	}
}
