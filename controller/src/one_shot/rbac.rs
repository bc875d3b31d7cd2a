//! What a run needs to be allowed, as the table that both the question before it and the grant are made of.

/// Rights in the words of Kubernetes, for whoever grants them.
pub mod role_bindings;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PermissionScope {
    /// In the run's namespace.
    Namespace,
    /// In the whole cluster: nodes are in no namespace.
    Cluster,
}

/// Rights to one kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// Where.
    pub scope: PermissionScope,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource behind a slash.
    pub resource: &'static str,
    /// What is done with it.
    pub verbs: &'static [&'static str],
    /// What for.
    pub why: &'static str,
}

/// Everything that a run does. Server-side apply wants `patch`, and `create` for what is not there yet.
///
/// <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#request-verb-mapping>
pub const REQUIRED_RULES: [PolicyRule; 7] = [
    PolicyRule {
        scope: PermissionScope::Namespace,
        group: "batch",
        resource: "jobs",
        verbs: &["create", "delete", "list", "patch", "watch"],
        why: "the anchor, which owns everything else",
    },
    PolicyRule {
        scope: PermissionScope::Namespace,
        group: "",
        resource: "pods",
        verbs: &["create", "deletecollection", "list", "patch", "watch"],
        why: "the agents, and their plans",
    },
    PolicyRule {
        scope: PermissionScope::Namespace,
        group: "",
        resource: "pods/log",
        verbs: &["get"],
        why: "what the agents saw",
    },
    PolicyRule {
        scope: PermissionScope::Namespace,
        group: "",
        resource: "services",
        verbs: &["create", "deletecollection", "patch"],
        why: "the test Services",
    },
    PolicyRule {
        scope: PermissionScope::Namespace,
        group: "discovery.k8s.io",
        resource: "endpointslices",
        verbs: &["create", "deletecollection", "patch"],
        why: "what is behind the test Services",
    },
    PolicyRule {
        scope: PermissionScope::Namespace,
        group: "",
        resource: "events",
        verbs: &["list"],
        why: "why a pod does not start",
    },
    PolicyRule {
        scope: PermissionScope::Cluster,
        group: "",
        resource: "nodes",
        verbs: &["get", "list"],
        why: "the nodes under test and their peers",
    },
];

/// One right: one verb on one kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Where.
    pub scope: PermissionScope,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource behind a slash.
    pub resource: &'static str,
    /// What is done with it.
    pub verb: &'static str,
}

/// Every right that a run needs.
pub fn required_permissions() -> impl Iterator<Item = Permission> {
    REQUIRED_RULES.iter().flat_map(|rule| {
        rule.verbs.iter().map(|verb| Permission {
            scope: rule.scope,
            group: rule.group,
            resource: rule.resource,
            verb,
        })
    })
}

impl Permission {
    /// The question whether whoever asks has this right in `namespace`.
    pub fn review(&self, namespace: &str) -> SelfSubjectAccessReview {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource, None),
        };
        SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(self.group.to_owned()),
                    namespace: match self.scope {
                        PermissionScope::Namespace => Some(namespace.to_owned()),
                        PermissionScope::Cluster => None,
                    },
                    resource: Some(resource.to_owned()),
                    subresource,
                    verb: Some(self.verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        }
    }
}

/// The rights that are missing, one line for each kind of thing: `create, patch jobs.batch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingPermissions(pub Vec<Permission>);

impl fmt::Display for MissingPermissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut verbs: BTreeMap<(PermissionScope, &str, &str), Vec<&str>> = BTreeMap::new();
        for need in &self.0 {
            verbs
                .entry((need.scope, need.resource, need.group))
                .or_default()
                .push(need.verb);
        }
        for ((extent, resource, group), verbs) in verbs {
            let dot = if group.is_empty() { "" } else { "." };
            let place = match extent {
                PermissionScope::Namespace => "",
                PermissionScope::Cluster => " (of the whole cluster)",
            };
            writeln!(f, "  {} {resource}{dot}{group}{place}", verbs.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subresource_is_asked_for_as_such_and_nodes_in_no_namespace() {
        let asked = |resource: &str| {
            required_permissions()
                .find(|need| need.resource == resource)
                .and_then(|need| need.review("prod").spec.resource_attributes)
                .expect("the run needs it")
        };
        let log = asked("pods/log");
        assert_eq!(log.resource.as_deref(), Some("pods"));
        assert_eq!(log.subresource.as_deref(), Some("log"));
        assert_eq!(log.namespace.as_deref(), Some("prod"));
        assert_eq!(asked("nodes").namespace, None);
        assert_eq!(asked("jobs").group.as_deref(), Some("batch"));
    }

    #[test]
    fn what_is_missing_is_told_by_kind() {
        let missing = required_permissions()
            .filter(|need| matches!(need.resource, "jobs" | "pods/log" | "nodes"))
            .filter(|need| need.verb != "watch")
            .collect();
        insta::assert_snapshot!(MissingPermissions(missing).to_string());
    }
}
