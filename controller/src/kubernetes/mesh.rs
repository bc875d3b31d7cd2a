//! Meshes put a proxy into pods, which answers for the server and hides the network: how a pod says that it wants none.

use std::collections::BTreeMap;

/// Where a mesh looks for the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataField {
    /// Among the pod's labels.
    Label,
    /// Among the pod's annotations.
    Annotation,
}

/// One way of staying out of a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptOut {
    /// The mesh.
    pub mesh: &'static str,
    /// Where it looks.
    pub field: MetadataField,
    /// The key.
    pub key: &'static str,
    /// The value that says no.
    pub value: &'static str,
}

/// Every way that is in use.
///
/// - Istio, sidecars: <https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/>; releases before 1.10 look
///   among the annotations
/// - Istio, ambient: <https://istio.io/latest/docs/ambient/usage/add-workloads/>
/// - Linkerd: <https://linkerd.io/2/features/proxy-injection/>
/// - Kuma and Kong Mesh: <https://kuma.io/docs/latest/production/dp-config/dpp-on-kubernetes/>; releases before 2.0 look
///   among the annotations
/// - Consul: <https://developer.hashicorp.com/consul/docs/k8s/annotations-and-labels>
/// - Open Service Mesh: <https://release-v1-2.docs.openservicemesh.io/docs/guides/app_onboarding/sidecar_injection/>
/// - AWS App Mesh: <https://docs.aws.amazon.com/app-mesh/latest/userguide/getting-started-kubernetes.html>
///
/// Cilium's mesh has no proxy in the pod, and Dapr puts one only where it is asked to.
pub const OPT_OUTS: [OptOut; 9] = [
    OptOut::new(
        "Istio",
        MetadataField::Label,
        "sidecar.istio.io/inject",
        "false",
    ),
    OptOut::new(
        "Istio",
        MetadataField::Annotation,
        "sidecar.istio.io/inject",
        "false",
    ),
    OptOut::new(
        "Istio",
        MetadataField::Label,
        "istio.io/dataplane-mode",
        "none",
    ),
    OptOut::new(
        "Linkerd",
        MetadataField::Annotation,
        "linkerd.io/inject",
        "disabled",
    ),
    OptOut::new(
        "Kuma",
        MetadataField::Label,
        "kuma.io/sidecar-injection",
        "disabled",
    ),
    OptOut::new(
        "Kuma",
        MetadataField::Annotation,
        "kuma.io/sidecar-injection",
        "disabled",
    ),
    OptOut::new(
        "Consul",
        MetadataField::Annotation,
        "consul.hashicorp.com/connect-inject",
        "false",
    ),
    OptOut::new(
        "Open Service Mesh",
        MetadataField::Annotation,
        "openservicemesh.io/sidecar-injection",
        "disabled",
    ),
    OptOut::new(
        "AWS App Mesh",
        MetadataField::Annotation,
        "appmesh.k8s.aws/sidecarInjectorWebhook",
        "disabled",
    ),
];

impl OptOut {
    const fn new(
        mesh: &'static str,
        mark: MetadataField,
        key: &'static str,
        value: &'static str,
    ) -> Self {
        Self {
            mesh,
            field: mark,
            key,
            value,
        }
    }
}

/// The labels, or the annotations, that keep a pod out of every mesh.
pub fn opt_outs(mark: MetadataField) -> BTreeMap<String, String> {
    OPT_OUTS
        .iter()
        .filter(|way| way.field == mark)
        .map(|way| (way.key.to_owned(), way.value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_out_reaches_the_pod() {
        assert_eq!(
            opt_outs(MetadataField::Label).len() + opt_outs(MetadataField::Annotation).len(),
            OPT_OUTS.len()
        );
    }

    #[test]
    fn every_key_and_label_value_is_one_that_kubernetes_takes() {
        for way in OPT_OUTS {
            let (prefix, name) = way.key.split_once('/').expect("a key has a prefix");
            assert!(prefix.len() <= 253 && name.len() <= 63, "{}", way.key);
            assert!(way.value.bytes().all(|byte| byte.is_ascii_lowercase()));
        }
    }
}
