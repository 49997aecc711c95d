package verify

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"istio.io/istio/pilot/pkg/model"
)

// What `meshtrace render request-headers --istio` prints reaches the routes of the place that its context names, and of
// no other.
func TestRequestHeadersAreInTheRoutes(t *testing.T) {
	version, _, _ := strings.Cut(*proxies, ",")
	for context, expected := range map[string]string{
		"SIDECAR_INBOUND":  "sidecar-inbound",
		"SIDECAR_OUTBOUND": "sidecar-outbound",
		"GATEWAY":          "gateway",
	} {
		command := exec.Command(*meshtrace, "render", "request-headers", "trace-context", "-",
			"--istio", strings.Join(strings.SplitN(version, ".", 3)[:2], "."), "--context", context, "--namespace", "default")
		command.Stdin = strings.NewReader(`{"request_headers": "filter_state", "inject": ["tracecontext"]}`)
		output, err := command.Output()
		if err != nil {
			t.Fatal(err)
		}
		m := manifest{"request-headers.yaml", string(output)}
		reached := false
		generator := istiodOf(t, m, meshConfig("none"))
		for _, kind := range []model.NodeType{model.SidecarProxy, model.Router} {
			proxy := generator.SetupProxy(proxyOf(kind, version, selected(t, m)))
			for _, r := range renderProxy(t, generator, proxy, nil) {
				var manager struct {
					RouteConfig json.RawMessage `json:"routeConfig"`
				}
				if err := json.Unmarshal(r.Manager, &manager); err != nil {
					t.Fatal(err)
				}
				reached = reached || r.Place == expected
				routes := string(manager.RouteConfig)
				for _, route := range r.Routes {
					routes += string(route)
				}
				for _, part := range []string{
					`"requestHeadersToRemove"`, `"%FILTER_STATE(wasm.traceparent:PLAIN)%"`, `"OVERWRITE_IF_EXISTS_OR_ADD"`,
				} {
					if found := strings.Contains(routes, part); found != (r.Place == expected) {
						t.Errorf("%s: %s in the routes of %s: %v: %s", context, part, r.Place, found, routes)
					}
				}
			}
		}
		if !reached {
			t.Errorf("%s: nothing was rendered for %s", context, expected)
		}
	}
}
