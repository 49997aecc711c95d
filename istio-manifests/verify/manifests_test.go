// Package verify proves the manifests with Istio's own code: the schemas of its CRDs, its validators, the generator of
// istiod, and the agent's image puller.
package verify

import (
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/collections"

	crdvalidation "istio.io/istio/pkg/config/crd"
)

var (
	manifests = flag.String("manifests", "..", "the folder of the manifests")
	out       = flag.String("out", "", "where what is rendered goes")
	istiod    = flag.String("istiod", "", "the minor version of the istiod that renders, such as 1.30")
	proxies   = flag.String("proxies", "", "the versions of the proxies that it renders for, with commas between")
	registry  = flag.String("registry", "", "the program docker-registry")
	kustomize = flag.String("kustomize", "", "the program kustomize")
	gateway   = flag.String("gateway", "", "the folder of Envoy Gateway's CRDs")
	images    = flag.String("images", "", "the program meshtrace-images")
	meshtrace = flag.String("meshtrace", "", "the program meshtrace")
	checkout  = flag.String("checkout", "../..", "the repository, with dist/ and dist/oci/")
)

// A manifest is a file with resources of Istio's kinds.
type manifest struct {
	path string
	text string
}

// name is the path without its ending, as a file name.
func (m manifest) name() string {
	return strings.ReplaceAll(strings.TrimSuffix(m.path, ".yaml"), "/", "_")
}

func (m manifest) parse(t *testing.T) []config.Config {
	t.Helper()
	configs, unknown, err := crd.ParseInputs(m.text)
	if err != nil {
		t.Fatalf("%s: %v", m.path, err)
	}
	if len(unknown) > 0 {
		t.Fatalf("%s: not of Istio: %v", m.path, unknown)
	}
	if len(configs) == 0 {
		t.Fatalf("%s: empty", m.path)
	}
	return configs
}

func readManifests(t *testing.T) []manifest {
	t.Helper()
	var found []manifest
	err := filepath.WalkDir(*manifests, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		relative, err := filepath.Rel(*manifests, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		// Kustomize's and Envoy Gateway's files are not Istio's.
		if err == nil && strings.Contains(string(text), ".istio.io/") && !strings.HasPrefix(relative, "verify/") &&
			!strings.HasPrefix(relative, "kustomize/") {
			found = append(found, manifest{relative, string(text)})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 4 {
		t.Fatalf("only %d manifests in %s", len(found), *manifests)
	}
	return found
}

// What the API server does: schema, defaults, CEL, and a refusal of unknown fields, which it would drop.
func TestCRDsAcceptEveryManifest(t *testing.T) {
	validator := crdvalidation.NewIstioValidator(t)
	for _, m := range append(readManifests(t), renderedManifests(t)...) {
		if newerThan(m.text) {
			continue
		}
		if err := validator.ValidateCustomResourceYAML(m.text, nil); err != nil {
			t.Errorf("%s: %v", m.path, err)
		}
		broken := strings.Replace(m.text, "\nspec:\n", "\nspec:\n  unheardOf: 1\n", 1)
		if validator.ValidateCustomResourceYAML(broken, nil) == nil {
			t.Errorf("%s: a field that does not exist is accepted", m.path)
		}
	}
}

// The same of Envoy Gateway's API.
func TestEnvoyGatewaysCRDsAcceptItsManifests(t *testing.T) {
	crds, err := filepath.Glob(filepath.Join(*gateway, "*.yaml"))
	if err != nil || len(crds) == 0 {
		t.Fatalf("no CRDs in %q (-gateway): %v", *gateway, err)
	}
	validator, err := crdvalidation.NewValidatorFromFiles(crds...)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(*manifests, "envoy-gateway", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := validator.ValidateCustomResourceYAML(string(text), nil); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		broken := strings.Replace(string(text), "\nspec:\n", "\nspec:\n  unheardOf: 1\n", 1)
		if validator.ValidateCustomResourceYAML(broken, nil) == nil {
			t.Errorf("%s: a field that does not exist is accepted", file)
		}
	}
}

// The plain files beside are what the overlays make.
func TestOverlaysAreThePlainFiles(t *testing.T) {
	overlays, err := filepath.Glob(filepath.Join(*manifests, "kustomize", "*", "overlays", "*"))
	if err != nil || len(overlays) < 4 {
		t.Fatalf("%v, %v", overlays, err)
	}
	bases, err := filepath.Glob(filepath.Join(*manifests, "kustomize", "*", "base"))
	if err != nil || len(bases) < 2 {
		t.Fatalf("%v, %v", bases, err)
	}
	for _, folder := range append(overlays, bases...) {
		output, err := exec.Command(*kustomize, "build", folder).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", folder, err, output)
			continue
		}
		var built map[string]any
		if err := yaml.Unmarshal(output, &built); err != nil {
			t.Fatal(err)
		}
		name, _, _ := unstructured.NestedString(built, "metadata", "name")
		parts := strings.Split(strings.TrimPrefix(folder, filepath.Join(*manifests, "kustomize")+"/"), "/")
		text, err := os.ReadFile(filepath.Join(*manifests, parts[0], name+".yaml"))
		if err != nil {
			t.Error(err)
			continue
		}
		var plain map[string]any
		if err := yaml.Unmarshal(text, &plain); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(built, plain) {
			t.Errorf("%s: %v is not %v", folder, built, plain)
		}
	}
}

// What the webhook and `istioctl validate` do. A warning is as much of a defect in a file that is there to be copied.
func TestValidatorsAcceptEveryManifest(t *testing.T) {
	for _, m := range append(readManifests(t), renderedManifests(t)...) {
		for _, c := range m.parse(t) {
			schema, found := collections.All.FindByGroupVersionAliasesKind(c.GroupVersionKind)
			if !found {
				t.Errorf("%s: %v is unknown", m.path, c.GroupVersionKind)
				continue
			}
			warning, err := schema.ValidateConfig(c)
			// Every EnvoyFilter has this one.
			if warning != nil && strings.HasPrefix(warning.Error(), "EnvoyFilter exposes internal implementation details") {
				warning = nil
			}
			if err != nil || warning != nil {
				t.Errorf("%s: %v, %v", m.path, err, warning)
			}
		}
	}
}

// head is the value of a line of the form "# Istio: 1.28 to 1.31" that a file begins with.
func head(text, name string) string {
	for _, line := range strings.SplitN(text, "\n", 3) {
		if value, found := strings.CutPrefix(line, "# "+name+": "); found {
			return value
		}
	}
	return ""
}

// newerThan says whether a text asks for a later istiod than the one of this run.
func newerThan(text string) bool {
	first, _, _ := strings.Cut(head(text, "Istio"), " to ")
	return *istiod < first
}

// proxiesOf are the proxies of this run that the head of a text names.
func proxiesOf(text string) []string {
	first, last, found := strings.Cut(head(text, "Istio"), " to ")
	if !found {
		last = first
	}
	var named []string
	for _, version := range strings.Split(*proxies, ",") {
		minor := version[:strings.LastIndex(version, ".")]
		if first <= minor && minor <= last {
			named = append(named, version)
		}
	}
	return named
}
