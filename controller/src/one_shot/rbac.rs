//! The permissions that a run needs. One table serves both the access reviews before a run and the YAML that grants them.

/// The permissions as Roles and RoleBindings in YAML.
pub mod role_bindings;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};

/// The scope of a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PermissionScope {
    /// The run's namespace.
    Namespace,
    /// The whole cluster, as nodes are in no namespace.
    Cluster,
}

/// The permissions for one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// The scope.
    pub scope: PermissionScope,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The resource; a subresource follows a slash. Of optional rules it may be several.
    pub resource: &'static str,
    /// The verbs of the requests.
    pub verbs: &'static [&'static str],
    /// The purpose, as a comment for the YAML.
    pub why: &'static str,
}

/// The permissions of all requests of a run. Server-side apply needs `patch`, and `create` for objects that do not exist.
///
/// <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#request-verb-mapping>
pub const REQUIRED_RULES: [PolicyRule; 7] = [
    PolicyRule {
        scope: PermissionScope::Namespace,
        group: "batch",
        resource: "jobs",
        verbs: &["create", "delete", "list", "patch", "watch"],
        why: "the Job that owns the other objects",
    },
    PolicyRule {
        scope: PermissionScope::Namespace,
        group: "",
        resource: "pods",
        verbs: &["create", "deletecollection", "list", "patch", "watch"],
        why: "the agents and their plans",
    },
    PolicyRule {
        scope: PermissionScope::Namespace,
        group: "",
        resource: "pods/log",
        verbs: &["get"],
        why: "the results of the agents",
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
        why: "the endpoints of the test Services",
    },
    PolicyRule {
        scope: PermissionScope::Namespace,
        group: "",
        resource: "events",
        verbs: &["list"],
        why: "the reasons why a pod does not start",
    },
    PolicyRule {
        scope: PermissionScope::Cluster,
        group: "",
        resource: "nodes",
        verbs: &["get", "list"],
        why: "the nodes under test and their peers",
    },
];

/// The permissions without which a run works, and knows less: whether a policy denies its packets.
pub const OPTIONAL_RULES: [PolicyRule; 8] = [
    optional(
        PermissionScope::Namespace,
        "networking.k8s.io",
        "networkpolicies",
    ),
    optional(
        PermissionScope::Namespace,
        "projectcalico.org",
        "networkpolicies",
    ),
    optional(
        PermissionScope::Namespace,
        "crd.projectcalico.org",
        "networkpolicies",
    ),
    optional(
        PermissionScope::Namespace,
        "cilium.io",
        "ciliumnetworkpolicies",
    ),
    optional(
        PermissionScope::Cluster,
        "projectcalico.org",
        "globalnetworkpolicies",
    ),
    optional(
        PermissionScope::Cluster,
        "crd.projectcalico.org",
        "globalnetworkpolicies",
    ),
    optional(
        PermissionScope::Cluster,
        "cilium.io",
        "ciliumclusterwidenetworkpolicies",
    ),
    optional(
        PermissionScope::Cluster,
        "policy.networking.k8s.io",
        "adminnetworkpolicies, baselineadminnetworkpolicies, clusternetworkpolicies",
    ),
];

const fn optional(
    scope: PermissionScope,
    group: &'static str,
    resource: &'static str,
) -> PolicyRule {
    PolicyRule {
        scope,
        group,
        resource,
        verbs: &["list"],
        why: "optional: policies that may deny the agents' packets",
    }
}

/// The permission for one verb on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The scope.
    pub scope: PermissionScope,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The resource; a subresource follows a slash.
    pub resource: &'static str,
    /// The verb.
    pub verb: &'static str,
}

/// Returns every permission that a run needs.
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
    /// Builds the review that checks whether the client's user has this permission in `namespace`.
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

/// Missing permissions, displayed with one line for each resource: `create, patch jobs.batch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingPermissions(pub Vec<Permission>);

impl fmt::Display for MissingPermissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut verbs: BTreeMap<(PermissionScope, &str, &str), Vec<&str>> = BTreeMap::new();
        for permission in &self.0 {
            verbs
                .entry((permission.scope, permission.resource, permission.group))
                .or_default()
                .push(permission.verb);
        }
        for ((scope, resource, group), verbs) in verbs {
            let dot = if group.is_empty() { "" } else { "." };
            let suffix = match scope {
                PermissionScope::Namespace => "",
                PermissionScope::Cluster => " (of the whole cluster)",
            };
            writeln!(f, "  {} {resource}{dot}{group}{suffix}", verbs.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_names_subresources_and_no_namespace_for_nodes() {
        let review = |resource: &str| {
            required_permissions()
                .find(|permission| permission.resource == resource)
                .and_then(|permission| permission.review("prod").spec.resource_attributes)
                .expect("the run needs it")
        };
        let log = review("pods/log");
        assert_eq!(log.resource.as_deref(), Some("pods"));
        assert_eq!(log.subresource.as_deref(), Some("log"));
        assert_eq!(log.namespace.as_deref(), Some("prod"));
        assert_eq!(review("nodes").namespace, None);
        assert_eq!(review("jobs").group.as_deref(), Some("batch"));
    }

    #[test]
    fn missing_permissions_are_grouped_by_resource() {
        let missing = required_permissions()
            .filter(|permission| matches!(permission.resource, "jobs" | "pods/log" | "nodes"))
            .filter(|permission| permission.verb != "watch")
            .collect();
        insta::assert_snapshot!(MissingPermissions(missing).to_string());
    }
}
