//! Resources of Kubernetes.

use crate::document::Node;

/// A resource of any kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resource<'t> {
    pub(crate) node: Node<'t>,
    pub(crate) kind: &'t str,
    pub(crate) name: &'t str,
    pub(crate) namespace: Option<&'t str>,
}

impl<'t> Resource<'t> {
    pub(crate) fn new(node: Node<'t>, kind: &'t str) -> Self {
        Self {
            node,
            kind,
            name: node.text_at(&["metadata", "name"]).unwrap_or_default(),
            namespace: node.text_at(&["metadata", "namespace"]),
        }
    }

    pub(crate) fn spec(&self) -> Option<Node<'t>> {
        self.node.get("spec")
    }

    /// The labels by which it selects workloads.
    pub(crate) fn selector(&self) -> Vec<(&'t str, Node<'t>)> {
        let spec = self.spec();
        let labels = spec.and_then(|spec| {
            spec.at(&["selector", "match_labels"])
                .or_else(|| spec.at(&["workload_selector", "labels"]))
        });
        labels.into_iter().flat_map(Node::entries).collect()
    }

    /// The labels of the pods that it creates, or its own where it is a pod.
    pub(crate) fn labels(&self) -> Option<Node<'t>> {
        match self.kind {
            "Pod" => self.node.at(&["metadata", "labels"]),
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "Rollout" => {
                self.node.at(&["spec", "template", "metadata", "labels"])
            }
            _ => None,
        }
    }

    pub(crate) fn is_workload(&self) -> bool {
        matches!(
            self.kind,
            "Pod" | "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "Rollout"
        )
    }

    /// Whether both resources can be in one namespace. A resource in the mesh's root namespace is
    /// for all namespaces.
    pub(crate) fn may_share_namespace(&self, other: &Self) -> bool {
        match (self.namespace, other.namespace) {
            (Some("istio-system"), _) | (_, Some("istio-system")) => true,
            (Some(own), Some(other)) => own == other,
            _ => true,
        }
    }
}
