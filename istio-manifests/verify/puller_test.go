package verify

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	wasmfilter "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	wasmextension "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry/remote"

	"istio.io/istio/pkg/model"
	"istio.io/istio/pkg/wasm"
)

const (
	// mesh and secret, by htpasswd -B.
	htpasswd = "mesh:$2y$05$8/HA0SuCRigAEv5Hs2DK/ePS4FvQyvkaLn9EN1gkm7YEw96QlCY3."
	// mesh:secret and mesh:wrong in Base64.
	right = "bWVzaDpzZWNyZXQ="
	wrong = "bWVzaDp3cm9uZw=="
	tag   = "1.2.3"
)

// store is a running docker-registry.
type store struct{ address string }

// startRegistry starts one that asks for Basic credentials where a realm is given.
func startRegistry(t *testing.T, realm string) store {
	t.Helper()
	folder := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %s/data}}\n"+
		"http: {addr: '127.0.0.1:0', secret: test}\nlog: {formatter: json}\n", folder)
	if realm != "" {
		write(t, filepath.Join(folder, "htpasswd"), htpasswd+"\n")
		config += fmt.Sprintf("auth: {htpasswd: {realm: '%s', path: %s/htpasswd}}\n", realm, folder)
	}
	file := filepath.Join(folder, "config.yml")
	write(t, file, config)
	process := exec.Command(*registry, "serve", file)
	log, err := process.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatalf("docker-registry (-registry): %v", err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg string }
		_ = json.Unmarshal(lines.Bytes(), &line)
		if address, found := strings.CutPrefix(line.Msg, "listening on "); found {
			go func() {
				for lines.Scan() {
				}
			}()
			return store{address}
		}
	}
	t.Fatal("docker-registry has ended")
	return store{}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func dockerConfig(address, auth string) string {
	return fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, address, auth)
}

// push is `make push`; it gives the digests to pin by the filter's name.
func push(t *testing.T, s store, config string) map[string]string {
	t.Helper()
	program, err := filepath.Abs(*images)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "push", s.address+"/meshtrace", tag)
	command.Dir = *checkout
	command.Env = append(os.Environ(), "DOCKER_CONFIG="+config)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	pinned := map[string]string{}
	for _, line := range strings.Fields(string(output)) {
		reference, digest, _ := strings.Cut(line, "@")
		name, image, _ := strings.Cut(reference[strings.LastIndex(reference, "/")+1:], ":")
		// The native tracer's image is for container runtimes.
		if image == tag && name != "native" {
			pinned[name] = digest
		}
	}
	if len(pinned) == 0 {
		t.Fatal("nothing was pushed")
	}
	// The version that the manifests name.
	retag := exec.Command(program, "push", s.address+"/meshtrace")
	retag.Dir, retag.Env = command.Dir, command.Env
	if err := retag.Run(); err != nil {
		t.Fatal(err)
	}
	return pinned
}

func TestPullerAcceptsEveryImage(t *testing.T) {
	s := startRegistry(t, "")
	pinned := push(t, s, t.TempDir())
	cache := wasm.NewLocalFileCache(t.TempDir(), wasm.Options{})
	defer cache.Cleanup()
	for name, digest := range pinned {
		built, err := os.ReadFile(filepath.Join(*checkout, "dist", name+".wasm"))
		if err != nil {
			t.Fatal(err)
		}
		url := "oci://" + s.address + "/meshtrace/" + name
		for _, c := range []struct{ url, checksum string }{
			{url + ":" + tag, ""},
			{url + ":" + tag, strings.TrimPrefix(digest, "sha256:")},
			{url + "@" + digest, ""},
			{url + ":" + tag + "-artifact", ""},
		} {
			path, err := cache.Get(c.url, wasm.GetOptions{Checksum: c.checksum, RequestTimeout: fetchLimit})
			if err != nil {
				t.Errorf("%v: %v", c, err)
				continue
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, built) {
				t.Errorf("%v: not the module that was built (%v)", c, err)
			}
		}
	}
}

// oras by its own library: what it copies has the digest that is pinned.
func TestOrasCopiesEveryImage(t *testing.T) {
	s := startRegistry(t, "")
	for name, digest := range push(t, s, t.TempDir()) {
		repository, err := remote.NewRepository(s.address + "/meshtrace/" + name)
		if err != nil {
			t.Fatal(err)
		}
		repository.PlainHTTP = true
		for _, suffix := range []string{"", "-artifact"} {
			copied, err := oras.Copy(t.Context(), repository, tag+suffix, memory.New(), "", oras.DefaultCopyOptions)
			if err != nil {
				t.Errorf("%s%s: %v", name, suffix, err)
			} else if suffix == "" && copied.Digest.String() != digest {
				t.Errorf("%s: %s is not %s", name, copied.Digest, digest)
			}
		}
		layout, err := oci.New(filepath.Join(*checkout, "dist/oci", name))
		if err != nil {
			t.Fatal(err)
		}
		tags, err := registryTags(t, layout)
		if err != nil || len(tags) != 2 {
			t.Errorf("%s: %v, %v", name, tags, err)
		}
	}
}

func registryTags(t *testing.T, layout *oci.Store) ([]string, error) {
	t.Helper()
	var found []string
	err := layout.Tags(t.Context(), "", func(tags []string) error {
		found = append(found, tags...)
		return nil
	})
	return found, err
}

// What the agent hands to Envoy in place of a module that it cannot fetch.
func TestAFailedFetchIsTheFailStrategys(t *testing.T) {
	s := startRegistry(t, "https://registry.example.com/")
	config := t.TempDir()
	write(t, filepath.Join(config, "config.json"), dockerConfig(s.address, right))
	pinned := push(t, s, config)
	for name, digest := range pinned {
		url := "oci://" + s.address + "/meshtrace/" + name + ":" + tag
		good := dockerConfig(s.address, right)
		digest = strings.TrimPrefix(digest, "sha256:")
		for what, c := range map[string]struct {
			url, sha256, secret string
			fetched             bool
		}{
			"all is right":     {url, digest, good, true},
			"the wrong sha256": {url, strings.Repeat("0", 64), good, false},
			"the wrong secret": {url, digest, dockerConfig(s.address, wrong), false},
			"no secret":        {url, digest, "", false},
			"a missing tag":    {url + ".9", digest, good, false},
		} {
			for policy, denies := range map[wasmextension.FailurePolicy]bool{
				wasmextension.FailurePolicy_FAIL_OPEN:   false,
				wasmextension.FailurePolicy_FAIL_CLOSED: true,
				wasmextension.FailurePolicy_FAIL_RELOAD: true,
			} {
				extension := converted(t, name, c.url, c.sha256, c.secret, policy)
				if c.fetched {
					filter := &wasmfilter.Wasm{}
					if err := extension.GetTypedConfig().UnmarshalTo(filter); err != nil {
						t.Errorf("%s, %s, %v: %v", name, what, policy, err)
					} else if filter.GetConfig().GetVmConfig().GetCode().GetLocal().GetFilename() == "" {
						t.Errorf("%s, %s, %v: no file", name, what, policy)
					}
					continue
				}
				filter := &rbac.RBAC{}
				if err := extension.GetTypedConfig().UnmarshalTo(filter); err != nil {
					t.Errorf("%s, %s, %v: %v", name, what, policy, err)
				} else if got := filter.GetRules() != nil; got != denies {
					t.Errorf("%s, %s, %v: denies is %v", name, what, policy, got)
				}
			}
		}
	}
}

// Since the agent looks at realms for fear of forged ones, it looks at those of Basic credentials too.
func TestABasicRealmThatIsNoURLIsRefused(t *testing.T) {
	s := startRegistry(t, "our registry")
	config := t.TempDir()
	write(t, filepath.Join(config, "config.json"), dockerConfig(s.address, right))
	for name := range push(t, s, config) {
		url := "oci://" + s.address + "/meshtrace/" + name + ":" + tag
		cache := wasm.NewLocalFileCache(t.TempDir(), wasm.Options{})
		defer cache.Cleanup()
		_, err := cache.Get(url, wasm.GetOptions{
			PullSecret: []byte(dockerConfig(s.address, right)), RequestTimeout: fetchLimit,
		})
		if err == nil || !strings.Contains(err.Error(), "rejected unsafe bearer realm") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func converted(t *testing.T, name, url, sha256, secret string, policy wasmextension.FailurePolicy) *core.TypedExtensionConfig {
	t.Helper()
	environment := map[string]string{}
	if secret != "" {
		environment[model.WasmSecretEnv] = secret
	}
	filter, err := anypb.New(&wasmfilter.Wasm{Config: &wasmextension.PluginConfig{
		Name: name, FailurePolicy: policy,
		Vm: &wasmextension.PluginConfig_VmConfig{VmConfig: &wasmextension.VmConfig{
			Runtime:              "envoy.wasm.runtime.v8",
			EnvironmentVariables: &wasmextension.EnvironmentVariables{KeyValues: environment},
			Code: &core.AsyncDataSource{Specifier: &core.AsyncDataSource_Remote{Remote: &core.RemoteDataSource{
				Sha256: sha256,
				HttpUri: &core.HttpUri{
					Uri: url, Timeout: durationpb.New(fetchLimit),
					HttpUpstreamType: &core.HttpUri_Cluster{Cluster: "_"},
				},
			}}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	resource, err := anypb.New(&core.TypedExtensionConfig{Name: name, TypedConfig: filter})
	if err != nil {
		t.Fatal(err)
	}
	cache := wasm.NewLocalFileCache(t.TempDir(), wasm.Options{})
	defer cache.Cleanup()
	resources := []*anypb.Any{resource}
	if err := wasm.MaybeConvertWasmExtensionConfig(resources, cache); err != nil {
		t.Fatal(err)
	}
	extension := &core.TypedExtensionConfig{}
	if err := resources[0].UnmarshalTo(extension); err != nil {
		t.Fatal(err)
	}
	return extension
}
