//! What a run needs to be allowed, as the table that both the question before it and the grant are made of.

/// Rights in the words of Kubernetes, for whoever grants them.
pub mod grant;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// In the run's namespace.
    Namespace,
    /// In the whole cluster: nodes are in no namespace.
    Cluster,
}

/// Rights to one kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub extent: Extent,
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
pub const RULES: [Rule; 7] = [
    Rule {
        extent: Extent::Namespace,
        group: "batch",
        resource: "jobs",
        verbs: &["create", "delete", "list", "patch", "watch"],
        why: "the anchor, which owns everything else",
    },
    Rule {
        extent: Extent::Namespace,
        group: "",
        resource: "pods",
        verbs: &["create", "deletecollection", "list", "patch", "watch"],
        why: "the agents, and their plans",
    },
    Rule {
        extent: Extent::Namespace,
        group: "",
        resource: "pods/log",
        verbs: &["get"],
        why: "what the agents saw",
    },
    Rule {
        extent: Extent::Namespace,
        group: "",
        resource: "services",
        verbs: &["create", "deletecollection", "patch"],
        why: "the test Services",
    },
    Rule {
        extent: Extent::Namespace,
        group: "discovery.k8s.io",
        resource: "endpointslices",
        verbs: &["create", "deletecollection", "patch"],
        why: "what is behind the test Services",
    },
    Rule {
        extent: Extent::Namespace,
        group: "",
        resource: "events",
        verbs: &["list"],
        why: "why a pod does not start",
    },
    Rule {
        extent: Extent::Cluster,
        group: "",
        resource: "nodes",
        verbs: &["get", "list"],
        why: "the nodes under test and their peers",
    },
];

/// One right: one verb on one kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Where.
    pub extent: Extent,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource behind a slash.
    pub resource: &'static str,
    /// What is done with it.
    pub verb: &'static str,
}

/// Every right that a run needs.
pub fn needs() -> impl Iterator<Item = Need> {
    RULES.iter().flat_map(|rule| {
        rule.verbs.iter().map(|verb| Need {
            extent: rule.extent,
            group: rule.group,
            resource: rule.resource,
            verb,
        })
    })
}

impl Need {
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
                    namespace: match self.extent {
                        Extent::Namespace => Some(namespace.to_owned()),
                        Extent::Cluster => None,
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
pub struct Missing(pub Vec<Need>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut verbs: BTreeMap<(Extent, &str, &str), Vec<&str>> = BTreeMap::new();
        for need in &self.0 {
            verbs
                .entry((need.extent, need.resource, need.group))
                .or_default()
                .push(need.verb);
        }
        for ((extent, resource, group), verbs) in verbs {
            let dot = if group.is_empty() { "" } else { "." };
            let place = match extent {
                Extent::Namespace => "",
                Extent::Cluster => " (of the whole cluster)",
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
            needs()
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
        let missing = needs()
            .filter(|need| matches!(need.resource, "jobs" | "pods/log" | "nodes"))
            .filter(|need| need.verb != "watch")
            .collect();
        insta::assert_snapshot!(Missing(missing).to_string());
    }
}
