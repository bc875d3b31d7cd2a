//! The labels and annotations that keep a pod out of service meshes. A mesh puts a proxy into a pod, which completes handshakes
//! on behalf of the server and hides the network.

use std::collections::BTreeMap;

/// The part of a pod's metadata that a mesh reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataField {
    /// The labels.
    Label,
    /// The annotations.
    Annotation,
}

/// A label or annotation that keeps a pod out of one mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptOut {
    /// The mesh.
    pub mesh: &'static str,
    /// Whether it is a label or an annotation.
    pub field: MetadataField,
    /// The key.
    pub key: &'static str,
    /// The value that opts out.
    pub value: &'static str,
}

/// The opt-outs of the meshes in use.
///
/// - Istio, sidecars: <https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/>; releases before 1.10 read
///   the annotation
/// - Istio, ambient: <https://istio.io/latest/docs/ambient/usage/add-workloads/>
/// - Linkerd: <https://linkerd.io/2/features/proxy-injection/>
/// - Kuma and Kong Mesh: <https://kuma.io/docs/latest/production/dp-config/dpp-on-kubernetes/>; releases before 2.0 read
///   the annotation
/// - Consul: <https://developer.hashicorp.com/consul/docs/k8s/annotations-and-labels>
/// - Open Service Mesh: <https://release-v1-2.docs.openservicemesh.io/docs/guides/app_onboarding/sidecar_injection/>
/// - AWS App Mesh: <https://docs.aws.amazon.com/app-mesh/latest/userguide/getting-started-kubernetes.html>
///
/// Cilium's mesh has no proxy in the pod, and Dapr injects one only on request.
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
        field: MetadataField,
        key: &'static str,
        value: &'static str,
    ) -> Self {
        Self {
            mesh,
            field,
            key,
            value,
        }
    }
}

/// The labels, or the annotations, that keep a pod out of every mesh.
pub fn opt_outs(field: MetadataField) -> BTreeMap<String, String> {
    OPT_OUTS
        .iter()
        .filter(|opt_out| opt_out.field == field)
        .map(|opt_out| (opt_out.key.to_owned(), opt_out.value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opt_out_is_a_label_or_an_annotation_of_the_pod() {
        assert_eq!(
            opt_outs(MetadataField::Label).len() + opt_outs(MetadataField::Annotation).len(),
            OPT_OUTS.len()
        );
    }

    #[test]
    fn keys_and_values_are_valid_in_kubernetes() {
        for opt_out in OPT_OUTS {
            let (prefix, name) = opt_out.key.split_once('/').expect("a key has a prefix");
            assert!(prefix.len() <= 253 && name.len() <= 63, "{}", opt_out.key);
            assert!(opt_out.value.bytes().all(|byte| byte.is_ascii_lowercase()));
        }
    }
}
