package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pilot/pkg/serviceregistry/kube"
	crdvalidation "istio.io/istio/pkg/config/crd"
)

// ofKubernetes are the clusters of a proxy where the text has Services of Kubernetes, and the rest is Istio's.
func ofKubernetes(t *testing.T, services, istio string, kind model.NodeType) map[string]*cluster.Cluster {
	t.Helper()
	var converted []*model.Service
	for _, document := range strings.Split(services, "\n---\n") {
		var service corev1.Service
		if err := yaml.UnmarshalStrict([]byte(document), &service); err != nil {
			t.Fatal(err)
		}
		if service.Spec.ClusterIP == "" {
			service.Spec.ClusterIP = "10.1.0.9"
		}
		converted = append(converted, kube.ConvertService(service, nil, "cluster.local", "Kubernetes", "cluster.local"))
	}
	generator := core.NewConfigGenTest(t, core.TestOptions{
		Services: converted, ConfigString: istio, MeshConfig: meshConfig("none"),
	})
	proxy := generator.SetupProxy(proxyOf(kind, strings.Split(*proxies, ",")[0], map[string]string{"app": "app"}))
	found := map[string]*cluster.Cluster{}
	for _, c := range generator.Clusters(proxy) {
		found[c.GetName()] = c
	}
	return found
}

func ofExample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(*checkout, "examples/collector", name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "apiVersion: networking.istio.io/") {
		if err := crdvalidation.NewIstioValidator(t).ValidateCustomResourceYAML(string(text), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	return string(text)
}

// servicesOf are the Services of a file, in the namespace that its kustomization names.
func servicesOf(t *testing.T, name string) string {
	t.Helper()
	var services []string
	for _, document := range strings.Split(ofExample(t, name), "\n---\n") {
		if strings.Contains(document, "kind: Service\n") {
			services = append(services, strings.Replace(document, "metadata:", "metadata:\n  namespace: observability", 1))
		}
	}
	if len(services) == 0 {
		t.Fatalf("%s: no Service", name)
	}
	return strings.Join(services, "\n---\n")
}

// A neighbour in the pod is a cluster of its own, in the clear, for both protocols.
func TestTheCollectorBesideIsACluster(t *testing.T) {
	text := strings.Replace(ofExample(t, "sidecar/istio.yaml"), "metadata:", "metadata:\n  namespace: istio-system", 1)
	found := ofKubernetes(t, servicesOf(t, "node/kubernetes.yaml"), text, model.SidecarProxy)
	for _, port := range []string{"4318", "4317"} {
		name := "outbound|" + port + "||otel-sidecar.internal"
		c := found[name]
		if c == nil || !strings.Contains(text, name) {
			t.Fatalf("no %s", name)
		}
		endpoint := c.GetLoadAssignment().String()
		if !strings.Contains(endpoint, `"127.0.0.1"`) && c.GetType() != cluster.Cluster_EDS {
			t.Errorf("%s: %s", name, endpoint)
		}
		if c.GetTransportSocket() != nil || len(c.GetTransportSocketMatches()) > 0 {
			t.Errorf("%s is not in the clear: %v", name, c)
		}
		if speaksHTTP2(c) != (port == "4317") {
			t.Errorf("%s: HTTP/2: %v", name, c)
		}
	}
}

// The Services of both other topologies are the clusters that their files name; the headless one is none that a filter can
// report to: its endpoints are where a request was going to.
func TestTheCollectorsServicesAreClusters(t *testing.T) {
	for file, host := range map[string]string{
		"node/kubernetes.yaml": "otel-node", "gateway/kubernetes.yaml": "otel-collector",
	} {
		services := servicesOf(t, file)
		for _, kind := range []model.NodeType{model.SidecarProxy, model.Router} {
			found := ofKubernetes(t, services, "", kind)
			name := "outbound|4318||" + host + ".observability.svc.cluster.local"
			if !strings.Contains(ofExample(t, file), name) {
				t.Errorf("%s does not say %s", file, name)
			}
			if c := found[name]; c.GetType() != cluster.Cluster_EDS || speaksHTTP2(c) {
				t.Errorf("%s: %s: %v", kind, name, c)
			}
			if c := found[strings.Replace(name, "4318", "4317", 1)]; !speaksHTTP2(c) {
				t.Errorf("%s: over gRPC: %v", kind, c)
			}
			if host != "otel-collector" || kind != model.SidecarProxy {
				continue
			}
			headless := found["outbound|4317||otel-tail.observability.svc.cluster.local"]
			if headless.GetType() != cluster.Cluster_ORIGINAL_DST {
				t.Errorf("the headless Service: %v", headless)
			}
		}
	}
}

// Proxies trust the CA that is mounted, and the Collector's name alone.
func TestTheCollectorIsTrustedByACAOfOnesOwn(t *testing.T) {
	text := strings.Replace(ofExample(t, "gateway/istio-tls.yaml"), "metadata:", "metadata:\n  namespace: istio-system", 1)
	found := ofKubernetes(t, servicesOf(t, "gateway/kubernetes.yaml"), text, model.SidecarProxy)
	for _, port := range []string{"4318", "4317"} {
		c := found["outbound|"+port+"||otel-collector.observability.svc.cluster.local"]
		made := string(encode(t, c))
		for _, part := range []string{"UpstreamTlsContext", "/etc/otel-ca/ca.crt", `"sni": "otel-collector.observability.svc.cluster.local"`} {
			if !strings.Contains(strings.ReplaceAll(made, `":"`, `": "`), part) {
				t.Errorf("%s: no %s in %s", port, part, made)
			}
		}
	}
}

// Every resource of Kubernetes has fields that there are.
func TestTheCollectorsWorkloadsAreOfKubernetes(t *testing.T) {
	seen := 0
	for _, file := range []string{"sidecar/patch.yaml", "node/kubernetes.yaml", "gateway/kubernetes.yaml", "gateway/network-policy.yaml"} {
		for _, document := range strings.Split(ofExample(t, file), "\n---\n") {
			var kind struct{ Kind string }
			if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
				t.Fatal(err)
			}
			resource := map[string]any{
				// A part of one.
				"": &appsv1.Deployment{}, "Deployment": &appsv1.Deployment{}, "DaemonSet": &appsv1.DaemonSet{},
				"StatefulSet": &appsv1.StatefulSet{}, "Service": &corev1.Service{}, "NetworkPolicy": &networkingv1.NetworkPolicy{},
			}[kind.Kind]
			if err := yaml.UnmarshalStrict([]byte(document), resource); err != nil {
				t.Errorf("%s: %s: %v", file, kind.Kind, err)
			}
			seen++
		}
	}
	if seen != 9 {
		t.Errorf("%d resources", seen)
	}
}
