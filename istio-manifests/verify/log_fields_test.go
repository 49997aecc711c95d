package verify

import (
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"

	"istio.io/istio/pilot/pkg/model"
)

// What Istio writes where nothing is configured is in the file that keeps it, as it is.
func TestIstiosOwnFieldsAreKept(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(*manifests, "access-log", "mesh-config-istio.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		ExtensionProviders []struct {
			EnvoyFileAccessLog struct {
				LogFormat struct{ Labels map[string]string }
			}
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	labels := config.ExtensionProviders[0].EnvoyFileAccessLog.LogFormat.Labels
	defaults := model.EnvoyJSONLogFormatIstio.GetFields()
	for name, format := range defaults {
		if labels[name] != format.GetStringValue() {
			t.Errorf("%s: %q, Istio's is %q", name, labels[name], format.GetStringValue())
		}
	}
	if len(defaults) != 24 || len(labels) != 24+5 {
		t.Errorf("%d fields of Istio, %d in the file", len(defaults), len(labels))
	}
}
