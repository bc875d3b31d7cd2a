//! What a user chooses of the agents' pods: how their image is pulled, their priority, their resources and what they tolerate.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, PodSpec, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The defaults: small requests, but enough CPU to send probes in time on a node without idle cores. Limits are set because
/// quotas may require them.
const DEFAULT_REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "24Mi")];
const DEFAULT_LIMITS: [(&str, &str); 2] = [("cpu", "1"), ("memory", "128Mi")];

/// What a user chooses of the agents' pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodOptions {
    /// The Secrets of the namespace with credentials for the registry of the image.
    pub image_pull_secrets: Vec<String>,
    /// The PriorityClass; `None`: that of the cluster for pods without one.
    pub priority_class: Option<String>,
    /// Requests of resources by name, such as `cpu`, instead of the defaults of these names.
    pub requests: BTreeMap<String, String>,
    /// Limits of resources by name, instead of the defaults of these names.
    pub limits: BTreeMap<String, String>,
    /// Taints that agents tolerate besides those that their nodes have.
    pub tolerations: Vec<ToleratedTaint>,
}

/// A taint that agents tolerate. Where a part is `None`, they tolerate every one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToleratedTaint {
    /// Its key.
    pub key: Option<String>,
    /// Its value.
    pub value: Option<String>,
    /// Its effect, such as `NoSchedule`.
    pub effect: Option<String>,
}

impl PodOptions {
    /// Applies the options to a pod, beside the resources of its containers.
    pub(super) fn apply(&self, spec: &mut PodSpec) {
        let secrets = self.image_pull_secrets.iter();
        let secrets: Vec<LocalObjectReference> = secrets
            .map(|name| LocalObjectReference { name: name.clone() })
            .collect();
        if !secrets.is_empty() {
            spec.image_pull_secrets = Some(secrets);
        }
        spec.priority_class_name.clone_from(&self.priority_class);
        if !self.tolerations.is_empty() {
            let tolerations = spec.tolerations.get_or_insert_default();
            tolerations.extend(self.tolerations.iter().map(ToleratedTaint::toleration));
        }
    }

    /// The resources of a container.
    pub(super) fn resources(&self) -> ResourceRequirements {
        let quantities = |defaults: [(&str, &str); 2], chosen: &BTreeMap<String, String>| {
            let defaults = defaults.map(|(name, amount)| (name.to_owned(), amount.to_owned()));
            let all = defaults.into_iter().chain(chosen.clone());
            all.map(|(name, amount)| (name, Quantity(amount))).collect()
        };
        ResourceRequirements {
            requests: Some(quantities(DEFAULT_REQUESTS, &self.requests)),
            limits: Some(quantities(DEFAULT_LIMITS, &self.limits)),
            claims: None,
        }
    }
}

impl ToleratedTaint {
    fn toleration(&self) -> Toleration {
        let operator = if self.value.is_some() {
            "Equal"
        } else {
            "Exists"
        };
        Toleration {
            key: self.key.clone(),
            operator: Some(operator.to_owned()),
            value: self.value.clone(),
            effect: self.effect.clone(),
            toleration_seconds: None,
        }
    }
}
