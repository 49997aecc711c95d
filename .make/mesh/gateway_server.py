"""Envoy Gateway itself, without Kubernetes, and what it served as a configuration of Envoy.

It reads resources from a folder, fetches images from a registry, and starts an Envoy, which takes listeners and routes from it
over xDS and the module from its own server.
"""

import base64
import json
import os
import re
import subprocess

import yaml
from example import check
from parts import get

REGISTRY = 5000
API, ROUTES = "gateway.envoyproxy.io/v1alpha1", "gateway.networking.k8s.io/v1"
HERE = "envoy-gateway-system"
NAMES = [f"envoy-gateway.{HERE}.svc.cluster.local", "otel-collector.observability.svc.cluster.local"]
CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
WASM = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"


def network(folder):
    """A network of its own has its loopback to start, and the names of a cluster's services are those of loopback."""
    (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(NAMES)}\n")
    subprocess.run(["mount", "--bind", str(folder / "hosts"), "/etc/hosts"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def pushed(processes, registry, images):
    """A registry with the images, and the digest of each."""
    config = f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {processes.folder}/registry}}}}\n"
    (processes.folder / "registry.yml").write_text(f"{config}http: {{addr: '127.0.0.1:{REGISTRY}', secret: test}}\n")
    processes.start("registry", [registry, "serve", str(processes.folder / "registry.yml")])
    processes.wait_for("registry", lambda: get(f"http://127.0.0.1:{REGISTRY}/v2/"))
    command = [images, "push", f"127.0.0.1:{REGISTRY}/meshtrace"]
    environment = {**os.environ, "DOCKER_CONFIG": str(processes.folder)}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return dict(re.findall(r"/([a-z_]+):[^-@\s]*@sha256:([0-9a-f]{64})", output))


def named(api, kind, name, spec):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}


def around(documents, version, listens, application):
    """A manifest, and what it is for: a Gateway whose proxy is this Envoy, with a route to the application."""
    proxies = [document for document in documents if document["kind"] == "EnvoyProxy"]
    made = [*documents]
    if not proxies:
        proxies = [named(API, "EnvoyProxy", "plain", {})]
        made += proxies
    [proxy] = proxies
    # Not Kubernetes.
    proxy["spec"]["provider"] = {"type": "Host", "host": {"envoyVersion": version}}
    parameters = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": proxy["metadata"]["name"]}
    backend = {"endpoints": [{"ip": {"address": "127.0.0.1", "port": application}}]}
    to = {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "application"}
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": "/app"}}], "backendRefs": [to]}
    gateway = {
        "gatewayClassName": "eg",
        "infrastructure": {"parametersRef": parameters},
        "listeners": [{"name": "http", "protocol": "HTTP", "port": listens}],
    }
    return made + [
        named(ROUTES, "GatewayClass", "eg", {"controllerName": CONTROLLER}),
        named(ROUTES, "Gateway", "eg", gateway),
        named(ROUTES, "HTTPRoute", "application", {"parentRefs": [{"name": "eg"}], "rules": [rule]}),
        named(API, "Backend", "application", backend),
    ]


def certificates(folder):
    """What Kubernetes would have from `certgen`: the proxies' own certificate, and a place for the authority of the modules' server."""
    found = {name: (folder / "configHome/certs/envoy" / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")}
    data = {name: base64.b64encode(text).decode() for name, text in found.items()}
    metadata = {"name": "envoy", "namespace": HERE}
    yield {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": data}
    path = "/transport_socket/typed_config/common_tls_context/validation_context/trusted_ca/filename"
    operation = {"op": "replace", "path": path, "value": str(folder / "configHome/certs/envoy/ca.crt")}
    patch = {"type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "wasm_cluster", "operation": operation}
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "eg"}
    yield named(API, "EnvoyPatchPolicy", "authority", {"targetRef": target, "type": "JSONPatch", "jsonPatches": [patch]})


def start(processes, folder, program, envoy, version, documents):
    """Starts it in this folder. Returns where it writes the address of its Envoy's admin interface."""
    places = {name: str(folder / name) for name in ("configHome", "dataHome", "stateHome", "runtimeDir")}
    installed = folder / "dataHome" / "envoy-versions" / version / "bin"
    installed.mkdir(parents=True)
    (installed / "envoy").symlink_to(envoy)
    custom = {
        "resource": {"type": "File", "file": {"paths": [str(folder / "resources")]}},
        "infrastructure": {"type": "Host", "host": places},
    }
    config = {
        "apiVersion": API,
        "kind": "EnvoyGateway",
        "gateway": {"controllerName": CONTROLLER},
        "provider": {"type": "Custom", "custom": custom},
        "extensionApis": {"enableBackend": True, "enableEnvoyPatchPolicy": True},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "HOME": str(folder)}
    certgen = [program, "certgen", "--local", "--config-home", places["configHome"]]
    subprocess.run(certgen, check=True, env=environment, stdout=subprocess.DEVNULL)
    (folder / "resources").mkdir()
    (folder / "resources" / "all.yaml").write_text(yaml.safe_dump_all([*documents, *certificates(folder)]))
    command = [program, "server", "--config-path", str(folder / "config.yaml")]
    return processes.start(f"gateway-{folder.name}", command, env=environment)


def served(folder, digest):
    """What it served to its Envoy, as a configuration that stands alone, with the module's file in the place of its server."""
    [address] = (folder / "runtimeDir").glob("*/admin-address.txt")
    dump = json.loads(get(f"http://{address.read_text()}/config_dump?include_eds"))["configs"]

    def of(kind, key, *inner):
        found = [one for config in dump if config["@type"].endswith(f".{kind}") for one in config.get(key, [])]
        for step in inner:
            found = [one[step] for one in found]
        for one in found:
            one.pop("@type", None)
        return found

    bootstrap = next(config["bootstrap"] for config in dump if config["@type"].endswith(".BootstrapConfigDump"))
    routes = {one["name"]: one for one in of("RoutesConfigDump", "dynamic_route_configs", "route_config")}
    endpoints = {one["cluster_name"]: one for one in of("EndpointsConfigDump", "dynamic_endpoint_configs", "endpoint_config")}
    listeners = of("ListenersConfigDump", "dynamic_listeners", "active_state", "listener")
    clusters = of("ClustersConfigDump", "dynamic_active_clusters", "cluster")
    check(any(one["name"] == "wasm_cluster" for one in clusters), f"no server of modules: {clusters}")
    clusters = [one for one in clusters if one["name"] != "wasm_cluster"]
    for one in clusters:
        if one.pop("eds_cluster_config", None):
            one["type"] = "STATIC"
            one["load_assignment"] = endpoints[one["name"]]
    clusters += [one for one in bootstrap["static_resources"]["clusters"] if one["name"] == "meshtrace-collector"]
    for manager in managers(listeners):
        if discovered := manager.pop("rds", None):
            manager["route_config"] = routes[discovered["route_config_name"]]
    for plugin in plugins(listeners):
        module = plugin["vm_config"]["code"].pop("remote")
        check(module["http_uri"]["uri"].startswith(f"https://{NAMES[0]}:18002/"), f"{module}")
        check(module["sha256"] == digest, f"another module: {module}")
        plugin["vm_config"]["code"]["local"] = {"filename": f"dist/{plugin['root_id']}.wasm"}
    for found in (listeners, clusters):
        found.sort(key=lambda one: one["name"])
    node = json.loads(get(f"http://{address.read_text()}/server_info"))["node"]
    node = {key: node[key] for key in ("id", "cluster")}
    return {"node": node, "static_resources": {"listeners": listeners, "clusters": clusters}}


def managers(listeners):
    for listener in listeners:
        chains = [*listener.get("filter_chains", []), *filter(None, [listener.get("default_filter_chain")])]
        for typed in (one["typed_config"] for chain in chains for one in chain["filters"]):
            if typed["@type"].endswith(".HttpConnectionManager"):
                yield typed


def plugins(listeners):
    for manager in managers(listeners):
        for one in manager["http_filters"]:
            if one.get("typed_config", {}).get("@type") == WASM:
                yield one["typed_config"]["config"]
