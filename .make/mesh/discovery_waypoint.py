"""A waypoint of a case: the mesh as its resources, certificates over SDS, and a node's proxy before and behind it.

The waypoint has listeners and clusters from istiod: it ends a tunnel of HTTP/2 and mutual TLS, and sends through another.
A second Envoy does what ztunnel does on both sides. What would be Istio's agent is a small server of SDS.
"""

import json
import random
from concurrent import futures

import certificates
import discovery_istio
import grpc
from discovery_istio import APP, HERE, resource
from example import HTTP2, address, cluster
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from parts import free_port

WAYPOINT = f"waypoint.{HERE}.svc.cluster.local"
# Of the application's Service, and of the waypoint's own pod. The port of every tunnel to a pod is HBONE.
SERVICE, INSIDE, HBONE = "10.1.0.1", "10.0.0.1", 15008
IDENTITY = f"spiffe://cluster.local/ns/{HERE}/sa/default"


def messages(package, **types):
    """Classes of messages. A type is its fields by name: a number, and a type's name where it is no text."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    file.dependency.append(any_pb2.DESCRIPTOR.name)
    for name, fields in types.items():
        made = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            kind, repeated = kind.removesuffix("*"), kind.endswith("*")
            one = made.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind == "string":
                one.type = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
            else:
                one.type, one.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in types]


# What a server of SDS needs of Envoy's messages.
TLS = "envoy.extensions.transport_sockets.tls.v3"
DiscoveryRequest, DiscoveryResponse = messages(
    "envoy.service.discovery.v3",
    DiscoveryRequest={"resource_names": (3, "string*"), "type_url": (4, "string"), "response_nonce": (5, "string")},
    DiscoveryResponse={
        "version_info": (1, "string"),
        "resources": (2, ".google.protobuf.Any*"),
        "type_url": (4, "string"),
        "nonce": (5, "string"),
    },
)
Secret, *_ = messages(
    TLS,
    Secret={"name": (1, "string"), "tls_certificate": (2, f".{TLS}.Own"), "validation_context": (4, f".{TLS}.Authority")},
    Own={"certificate_chain": (1, f".{TLS}.Text"), "private_key": (2, f".{TLS}.Text")},
    Authority={"trusted_ca": (1, f".{TLS}.Text")},
    Text={"inline_string": (3, "string")},
)


class Secrets(grpc.GenericRpcHandler):
    """The certificate and the authority of every proxy, as Istio's agent hands them out."""

    def __init__(self, folder):
        self.own, self.root = Secret(name="default"), Secret(name="ROOTCA")
        self.own.tls_certificate.certificate_chain.inline_string = (folder / "proxy.crt").read_text()
        self.own.tls_certificate.private_key.inline_string = (folder / "proxy.key").read_text()
        self.root.validation_context.trusted_ca.inline_string = (folder / "ca.crt").read_text()
        self.server = grpc.server(futures.ThreadPoolExecutor())
        self.server.add_generic_rpc_handlers([self])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def service(self, call):
        if call.method != "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets":
            return None
        return grpc.stream_stream_rpc_method_handler(
            self.stream, DiscoveryRequest.FromString, DiscoveryResponse.SerializeToString
        )

    def stream(self, requests, _):
        for request in requests:
            # What follows an answer is its acknowledgement.
            if request.response_nonce:
                continue
            answer = DiscoveryResponse(version_info="1", type_url=request.type_url, nonce="1")
            for secret in (self.own, self.root):
                if secret.name in request.resource_names:
                    answer.resources.add().Pack(secret)
            yield answer


def tls(side, folder):
    """Mutual TLS as the waypoint has it."""
    version = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    socket = certificates.mutual(side, folder, IDENTITY, alpn_protocols=["h2"], tls_params=version)
    return {"transport_socket": socket}


class World(discovery_istio.World):
    """The mesh of a case: an application behind a waypoint, and the collectors."""

    environment = {
        **discovery_istio.World.environment,
        "PILOT_ENABLE_AMBIENT": "true",
        # Tunnels in tunnels, to other networks.
        "AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT": "false",
        # Nothing deploys the waypoint but this test.
        "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
        "PILOT_ENABLE_GATEWAY_API_STATUS": "false",
    }

    def __init__(self, case, back):
        super().__init__(case, back)
        self.tunnel, self.node_admin = free_port(), free_port()
        # The application's pod has an address of loopback that no other test has.
        self.pod = f"127.78.{random.randint(1, 254)}.{random.randint(1, 254)}"

    def mesh(self):
        ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}]
        tunnels = {"networking.istio.io/tunnel": "http"}
        app = {
            "hosts": [APP],
            "addresses": [SERVICE],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": ports,
            "endpoints": [{"address": self.pod, "labels": tunnels}],
        }
        own = {**app, "hosts": [WAYPOINT], "addresses": ["10.1.0.2"], "endpoints": [{"address": INSIDE, "labels": self.labels()}]}
        app = resource("networking", "ServiceEntry", "app", HERE, app)
        app["metadata"]["labels"] = {"istio.io/use-waypoint": "waypoint"}
        return [
            *self.collectors(),
            app,
            resource("networking", "ServiceEntry", "waypoint", HERE, own),
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "metadata": {"name": "waypoint", "namespace": HERE},
                "spec": {
                    "gatewayClassName": "istio-waypoint",
                    "listeners": [{"name": "mesh", "port": HBONE, "protocol": "HBONE"}],
                },
                # As istiod writes it when the waypoint's pods are there.
                "status": {"addresses": [{"type": "Hostname", "value": WAYPOINT}]},
            },
            {**resource("networking", "EnvoyFilter", "here", HERE, self.patches()), "apiVersion": "networking.istio.io/v1alpha3"},
        ]

    def patches(self):
        """A port of its own for the tunnel, and without what only Istio's Envoy has."""
        def patch(kind, match, operation, **value):
            return {"applyTo": kind, "match": match, "patch": {"operation": operation, **({"value": value} if value else {})}}

        def filters(**one):
            manager = {"name": "envoy.filters.network.http_connection_manager", **one}
            return {"listener": {"filterChain": {"filter": manager}}}

        own = {"listener": {"name": "connect_terminate"}}
        found = [patch("LISTENER", own, "MERGE", address=address(self.tunnel))]
        # The first two are Istio's own. The third is Envoy's, with values of Istio's own types.
        for name in ("waypoint_downstream_peer_metadata", "waypoint_upstream_peer_metadata", "connect_authority"):
            found.append(patch("HTTP_FILTER", filters(subFilter={"name": name}), "REMOVE"))
        # It is put back with what decides where a tunnel leads.
        destination = {
            "object_key": "envoy.filters.listener.original_dst.local_ip",
            "format_string": {"text_format_source": {"inline_string": "%REQ(:AUTHORITY)%"}},
            "shared_with_upstream": "ONCE",
        }
        typed = "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config"
        value = {"name": "connect_authority", "typed_config": {"@type": typed, "on_request_headers": [destination]}}
        terminate = filters()
        terminate["listener"]["name"] = "connect_terminate"
        found.append(patch("HTTP_FILTER", terminate, "INSERT_FIRST", **value))
        target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"}
        return {"targetRefs": [target], "configPatches": found}

    def config(self):
        config = super().config()
        # A waypoint knows the collector because a provider names it.
        collector = {"service": "otel-collector.observability.svc.cluster.local", "port": 4318}
        config["extensionProviders"].append({"name": "mesh-tracing-collector", "opentelemetry": collector})
        return config

    def labels(self):
        managed = {"gateway.istio.io/managed": "istio.io-mesh-controller"}
        return {**super().labels(), **managed, "gateway.networking.k8s.io/gateway-name": "waypoint"}

    def start(self, processes, envoy):
        folder = processes.folder
        certificates.authority(folder, "ca")
        certificates.signed(folder, "ca", "proxy", f"URI:{IDENTITY}")
        self.secrets = Secrets(folder)
        processes.envoy("ztunnel", envoy, json.dumps(self.ztunnel(folder)), self.node_admin)
        super().start(processes, envoy)

    def close(self):
        self.secrets.server.stop(None)

    def bootstrap(self):
        bootstrap = super().bootstrap()
        bootstrap["static_resources"]["clusters"].append(cluster("sds-grpc", self.secrets.port, **HTTP2))
        bootstrap["bootstrap_extensions"] = [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
                },
            }
        ]
        return bootstrap

    def ztunnel(self, folder):
        """The proxy of the nodes: requests enter its tunnel to the waypoint, and leave the waypoint's to the application."""
        filters = "type.googleapis.com/envoy.extensions.filters.network"
        tcp = {
            "@type": f"{filters}.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "out",
            "cluster": "waypoint",
            "tunneling_config": {"hostname": f"{SERVICE}:80"},
        }
        route = {"cluster": "app", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}
        hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"connect_matcher": {}}, "route": route}]}]
        router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
        manager = {
            "@type": f"{filters}.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "http2_protocol_options": {"allow_connect": True},
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
            "route_config": {"virtual_hosts": hosts},
            "http_filters": [{"name": "router", "typed_config": router}],
        }
        out = {"filters": [{"name": "tcp", "typed_config": tcp}]}
        into = {"filters": [{"name": "manager", "typed_config": manager}], **tls("Downstream", folder)}
        return {
            "admin": {"address": address(self.node_admin)},
            "static_resources": {
                "listeners": [
                    {"name": "out", "address": address(self.outside), "filter_chains": [out]},
                    {"name": "in", "address": address(HBONE, self.pod), "filter_chains": [into]},
                ],
                "clusters": [
                    cluster("waypoint", self.tunnel, **HTTP2, **tls("Upstream", folder)),
                    cluster("app", self.back.port),
                ],
            },
        }
