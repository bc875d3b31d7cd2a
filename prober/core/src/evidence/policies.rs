//! The policies of the API that may deny packets of the agents' pods. The API does not show whether they are enforced.

use std::fmt;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $kind:literal, $resource:literal, $group:literal, $scope:ident, $engine:ident;)*) => {
        /// A kind of policy for pods.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum PolicyKind { $($(#[doc = $doc])+ $name,)* }

        impl PolicyKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $kind,)* }
            }

            /// Its resource, as the paths of requests have it.
            pub const fn resource(self) -> &'static str {
                match self { $(Self::$name => $resource,)* }
            }

            /// Its API group.
            pub const fn group(self) -> &'static str {
                match self { $(Self::$name => $group,)* }
            }

            /// Whether its objects are in namespaces, and for the pods of theirs alone.
            pub const fn is_namespaced(self) -> bool {
                match self { $(Self::$name => matches!(PolicyScope::$scope, PolicyScope::Namespace),)* }
            }

            /// What enforces it.
            pub const fn engine(self) -> PolicyEngine {
                match self { $(Self::$name => PolicyEngine::$engine,)* }
            }
        }
    };
}

kinds! {
    /// Of Kubernetes.
    NetworkPolicy = "NetworkPolicy", "networkpolicies", "networking.k8s.io", Namespace, Any;
    /// Of Calico.
    CalicoNetworkPolicy = "NetworkPolicy", "networkpolicies", "projectcalico.org", Namespace, Calico;
    /// Of Calico, for the whole cluster.
    CalicoGlobalNetworkPolicy = "GlobalNetworkPolicy", "globalnetworkpolicies", "projectcalico.org", Cluster, Calico;
    /// Of Cilium.
    CiliumNetworkPolicy = "CiliumNetworkPolicy", "ciliumnetworkpolicies", "cilium.io", Namespace, Cilium;
    /// Of Cilium, for the whole cluster.
    CiliumClusterwideNetworkPolicy = "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", "cilium.io", Cluster, Cilium;
    /// Of the Network Policy API, by administrators, before any NetworkPolicy.
    AdminNetworkPolicy = "AdminNetworkPolicy", "adminnetworkpolicies", "policy.networking.k8s.io", Cluster, Any;
    /// Of the Network Policy API, for pods that no NetworkPolicy selects.
    BaselineAdminNetworkPolicy = "BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies", "policy.networking.k8s.io", Cluster, Any;
    /// Of the Network Policy API, in the place of the former two.
    ClusterNetworkPolicy = "ClusterNetworkPolicy", "clusternetworkpolicies", "policy.networking.k8s.io", Cluster, Any;
}

#[derive(Clone, Copy)]
enum PolicyScope {
    Namespace,
    Cluster,
}

/// A program that enforces policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyEngine {
    /// Whatever the cluster runs.
    Any,
    /// Calico's Felix.
    Calico,
    /// Cilium's agent.
    Cilium,
}

/// What a policy denies of the agents' packets in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// Nothing.
    #[default]
    Nothing,
    /// A part, or what cannot be evaluated from the policy alone.
    Maybe,
    /// Every packet that begins a connection.
    Everything,
}

/// A policy that denies packets of the agents' pods, or may.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiPolicy {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace; `None` for the whole cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// What it denies of connections to the pods.
    pub ingress: Denial,
    /// What it denies of connections that the pods begin.
    pub egress: Denial,
}

/// The policies of the API, as far as they can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiPolicies {
    /// Those that deny packets of the agents' pods, or may.
    pub denying: Vec<ApiPolicy>,
    /// The kinds that the API has and that could not be listed.
    pub unread: Vec<PolicyKind>,
}

impl PolicyKind {
    /// Its resource with its group, as kubectl has it: `networkpolicies.networking.k8s.io`.
    pub fn qualified(self) -> String {
        format!("{}.{}", self.resource(), self.group())
    }

    /// The command that lists its objects in all namespaces.
    pub fn list_command(self) -> String {
        let everywhere = if self.is_namespaced() { " -A" } else { "" };
        match self.engine() {
            PolicyEngine::Calico => {
                format!("calicoctl get {}{everywhere}", self.as_str().to_lowercase())
            }
            PolicyEngine::Any | PolicyEngine::Cilium => {
                format!("kubectl get {}{everywhere}", self.qualified())
            }
        }
    }
}

impl ApiPolicy {
    /// The command that shows it.
    pub fn show_command(&self) -> String {
        let name = &self.name;
        let place = (self.namespace.as_ref())
            .map_or_else(String::new, |namespace| format!(" -n {namespace}"));
        match self.kind.engine() {
            PolicyEngine::Calico => {
                let kind = self.kind.as_str().to_lowercase();
                format!("calicoctl get {kind} {name}{place} -o yaml")
            }
            PolicyEngine::Any | PolicyEngine::Cilium => {
                format!(
                    "kubectl get {} {name}{place} -o yaml",
                    self.kind.qualified()
                )
            }
        }
    }

    /// What it does, as a clause: "NetworkPolicy default-deny in namespace prod denies ingress and egress of the agents' pods".
    pub fn sentence(&self) -> String {
        let of = |denial: Denial| {
            let directions = [("ingress", self.ingress), ("egress", self.egress)];
            let alike = directions.into_iter().filter(|(_, own)| *own == denial);
            let names: Vec<&str> = alike.map(|(name, _)| name).collect();
            names.join(" and ")
        };
        let (all, some) = (of(Denial::Everything), of(Denial::Maybe));
        let what = match (all.is_empty(), some.is_empty()) {
            (false, true) => format!("denies {all}"),
            (true, false) => format!("may deny {some}"),
            (false, false) => format!("denies {all} and may deny {some}"),
            (true, true) => "denies nothing".to_owned(),
        };
        format!("{self} {what} of the agents' pods")
    }
}

impl fmt::Display for ApiPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.kind {
            PolicyKind::CalicoNetworkPolicy => "Calico's ",
            PolicyKind::NetworkPolicy
            | PolicyKind::CalicoGlobalNetworkPolicy
            | PolicyKind::CiliumNetworkPolicy
            | PolicyKind::CiliumClusterwideNetworkPolicy
            | PolicyKind::AdminNetworkPolicy
            | PolicyKind::BaselineAdminNetworkPolicy
            | PolicyKind::ClusterNetworkPolicy => "",
        };
        write!(f, "{of}{} {}", self.kind.as_str(), self.name)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

impl ApiPolicies {
    /// A sentence for the kinds that could not be listed; `None` where there is none.
    pub fn unread_sentence(&self) -> Option<String> {
        let kinds: Vec<String> = self.unread.iter().map(|kind| kind.qualified()).collect();
        (!kinds.is_empty()).then(|| {
            format!(
                "policies of the API were not readable: {}; one of them may deny what fails",
                kinds.join(", ")
            )
        })
    }

    /// The observation that would show whether an unread policy denies what fails; `None` where all were read.
    pub fn unread_observation(&self) -> Option<String> {
        let commands: Vec<String> = (self.unread.iter())
            .map(|kind| format!("`{}`", kind.list_command()))
            .collect();
        (!commands.is_empty()).then(|| {
            format!(
                "policies that the run could not list: {}",
                commands.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(kind: PolicyKind, ingress: Denial, egress: Denial) -> ApiPolicy {
        let namespace = kind.is_namespaced().then(|| "prod".to_owned());
        ApiPolicy {
            kind,
            namespace,
            name: "deny-all".to_owned(),
            ingress,
            egress,
        }
    }

    #[test]
    fn a_policy_is_described_by_what_it_denies_for_certain_and_what_it_may_deny() {
        use Denial::{Everything, Maybe, Nothing};
        let said = |kind, ingress, egress| policy(kind, ingress, egress).sentence();
        assert_eq!(
            said(PolicyKind::NetworkPolicy, Everything, Everything),
            "NetworkPolicy deny-all in namespace prod denies ingress and egress of the agents' pods"
        );
        assert_eq!(
            said(PolicyKind::CiliumClusterwideNetworkPolicy, Maybe, Nothing),
            "CiliumClusterwideNetworkPolicy deny-all may deny ingress of the agents' pods"
        );
        assert_eq!(
            said(PolicyKind::CalicoNetworkPolicy, Everything, Maybe),
            "Calico's NetworkPolicy deny-all in namespace prod denies ingress and may deny egress of the agents' pods"
        );
    }

    #[test]
    fn each_kind_is_shown_by_its_own_tool() {
        let shown = |kind| policy(kind, Denial::Everything, Denial::Nothing).show_command();
        assert_eq!(
            shown(PolicyKind::CalicoGlobalNetworkPolicy),
            "calicoctl get globalnetworkpolicy deny-all -o yaml"
        );
        assert_eq!(
            shown(PolicyKind::CiliumNetworkPolicy),
            "kubectl get ciliumnetworkpolicies.cilium.io deny-all -n prod -o yaml"
        );
        assert_eq!(
            PolicyKind::CalicoNetworkPolicy.list_command(),
            "calicoctl get networkpolicy -A"
        );
    }
}
