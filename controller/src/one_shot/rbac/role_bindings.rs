//! The permissions of a run as YAML: Roles and RoleBindings for one user or service account, for a cluster administrator to apply.

use crate::one_shot::rbac::{OPTIONAL_RULES, PermissionScope, REQUIRED_RULES};

/// The name of the Role and its RoleBinding.
const ROLE: &str = "prober-run";

/// The subject of the RoleBindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A user, by its name in the API server.
    User(String),
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Subject {
    /// Parses the username of a request, as the API server reports it.
    ///
    /// <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>
    pub fn new(username: &str) -> Self {
        let account = username
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'));
        match account {
            Some((namespace, name)) => Self::ServiceAccount {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            None => Self::User(username.to_owned()),
        }
    }

    fn yaml(&self) -> String {
        match self {
            Self::User(name) => format!(
                "- kind: User\n  name: {}\n  apiGroup: rbac.authorization.k8s.io\n",
                quoted(name)
            ),
            Self::ServiceAccount { namespace, name } => format!(
                "- kind: ServiceAccount\n  name: {}\n  namespace: {}\n",
                quoted(name),
                quoted(namespace)
            ),
        }
    }
}

/// Renders the four objects that allow `subject` to probe from `namespace`, for `kubectl apply -f -`.
///
/// <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>
pub fn yaml(namespace: &str, subject: &Subject) -> String {
    let cluster_role = format!("{ROLE}-{namespace}");
    [
        role("Role", ROLE, Some(namespace), PermissionScope::Namespace),
        binding("Role", ROLE, Some(namespace), subject),
        role("ClusterRole", &cluster_role, None, PermissionScope::Cluster),
        binding("ClusterRole", &cluster_role, None, subject),
    ]
    .join("---\n")
}

fn head(kind: &str, name: &str, namespace: Option<&str>) -> String {
    let namespace = namespace.map_or_else(String::new, |namespace| {
        format!("  namespace: {}\n", quoted(namespace))
    });
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {}\n{namespace}",
        quoted(name)
    )
}

fn role(kind: &str, name: &str, namespace: Option<&str>, extent: PermissionScope) -> String {
    let rules: Vec<String> = REQUIRED_RULES
        .iter()
        .chain(&OPTIONAL_RULES)
        .filter(|rule| rule.scope == extent)
        .map(|rule| {
            format!(
                "# {}\n- apiGroups: [{}]\n  resources: [{}]\n  verbs: [{}]\n",
                rule.why,
                quoted(rule.group),
                rule.resource,
                rule.verbs.join(", ")
            )
        })
        .collect();
    format!("{}rules:\n{}", head(kind, name, namespace), rules.concat())
}

fn binding(kind: &str, name: &str, namespace: Option<&str>, subject: &Subject) -> String {
    format!(
        "{}subjects:\n{}roleRef:\n  kind: {kind}\n  name: {}\n  apiGroup: rbac.authorization.k8s.io\n",
        head(&format!("{kind}Binding"), name, namespace),
        subject.yaml(),
        quoted(name)
    )
}

/// Quotes a string for YAML, in which every JSON string is valid.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yaml_reads_like_this() {
        insta::assert_snapshot!(yaml("prod", &Subject::new("jane@example.com")));
    }

    #[test]
    fn a_username_of_a_service_account_is_parsed() {
        assert_eq!(
            Subject::new("system:serviceaccount:ci:prober"),
            Subject::ServiceAccount {
                namespace: "ci".to_owned(),
                name: "prober".to_owned()
            }
        );
        assert_eq!(
            Subject::new("system:admin"),
            Subject::User("system:admin".to_owned())
        );
    }
}
