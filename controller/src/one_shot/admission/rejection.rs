//! What is said to a pod before it exists: the refusals of the admission chain, told apart by their words, which are all
//! that the API gives.

use kube::core::Status;
use thiserror::Error;

/// Why a pod is not admitted. The words in each are the API server's own.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PodRejection {
    /// Pod Security admission: <https://kubernetes.io/docs/concepts/security/pod-security-admission/>
    #[error("the namespace enforces Pod Security {level}: {violations}")]
    PodSecurity {
        /// `baseline` or `restricted`.
        level: String,
        /// What is violated.
        violations: String,
    },
    /// A security context constraint, as OpenShift has them.
    #[error("no security context constraint of this user fits: {words}")]
    SecurityContext {
        /// Which were tried.
        words: String,
    },
    /// <https://kubernetes.io/docs/concepts/policy/resource-quotas/>
    #[error(
        "{words}: `kubectl describe quota` shows what is used; raise it, wait, or take another namespace (-n)"
    )]
    Quota {
        /// Which quota, and by how much.
        words: String,
    },
    /// A webhook or a `ValidatingAdmissionPolicy` of the cluster's owner.
    #[error("a policy of this cluster refuses it: {words}")]
    Policy {
        /// Its name and reason.
        words: String,
    },
    /// The user may not create pods here.
    #[error("{words}")]
    Forbidden {
        /// Who may not do what.
        words: String,
    },
    /// The namespace does not exist.
    #[error(
        "there is no namespace {name:?}: `kubectl get namespaces` lists them, -n names another"
    )]
    NamespaceNotFound {
        /// Its name.
        name: String,
    },
    /// The namespace is being deleted.
    #[error("the namespace is being deleted: wait, or name another with -n")]
    NamespaceTerminating,
    /// Anything else, for instance a `LimitRange`.
    #[error("{words}")]
    Other {
        /// What the API server says.
        words: String,
    },
}

impl PodRejection {
    /// Reads a refusal of an attempt to create a pod in `namespace`.
    pub fn from_status(namespace: &str, status: &Status) -> Self {
        let said = status.message.as_str();
        // `pods "NAME" is forbidden: WORDS`
        let (is_forbidden, words) = match said.split_once(" is forbidden: ") {
            Some((_, words)) => (true, words),
            None => (false, said),
        };
        let owned = |words: &str| words.trim().to_owned();
        if status.code == 404 && said.starts_with("namespaces ") {
            return Self::NamespaceNotFound {
                name: namespace.to_owned(),
            };
        }
        if let Some((level, violations)) = pod_security(words) {
            return Self::PodSecurity {
                level: owned(level),
                violations: owned(violations),
            };
        }
        if words.starts_with("unable to validate against any security context constraint") {
            return Self::SecurityContext {
                words: owned(words.split_once(": ").map_or(words, |(_, tried)| tried)),
            };
        }
        if words.starts_with("exceeded quota: ") || words.starts_with("failed quota: ") {
            return Self::Quota {
                words: owned(words),
            };
        }
        if said.starts_with("admission webhook ") || words.starts_with("ValidatingAdmissionPolicy ")
        {
            return Self::Policy {
                words: owned(words),
            };
        }
        if words.contains("because it is being terminated") {
            return Self::NamespaceTerminating;
        }
        if is_forbidden && words.starts_with("User ") && words.contains(" cannot ") {
            return Self::Forbidden {
                words: owned(words),
            };
        }
        Self::Other {
            words: owned(words),
        }
    }
}

/// `violates PodSecurity "LEVEL:VERSION": VIOLATIONS`
fn pod_security(words: &str) -> Option<(&str, &str)> {
    let (policy, violations) = words
        .strip_prefix("violates PodSecurity \"")?
        .split_once("\": ")?;
    let (level, _version) = policy.split_once(':')?;
    Some((level, violations))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: u16, message: &str) -> PodRejection {
        let mut status = Status::failure(message, "");
        status.code = code;
        PodRejection::from_status("prod", &status)
    }

    #[test]
    fn a_refusal_is_known_by_its_words() {
        let other = |words: &str| PodRejection::Other {
            words: words.to_owned(),
        };
        for (code, message, expected) in [
            (
                403,
                "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": unrestricted capabilities \
                 (container \"agent\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsUser=0 (container \
                 \"agent\" must not set runAsUser=0)",
                PodRejection::PodSecurity {
                    level: "restricted".to_owned(),
                    violations: "unrestricted capabilities (container \"agent\" must set \
                                 securityContext.capabilities.drop=[\"ALL\"]), runAsUser=0 (container \"agent\" must \
                                 not set runAsUser=0)"
                        .to_owned(),
                },
            ),
            (
                403,
                "pods \"p\" is forbidden: violates PodSecurity \"baseline:v1.33\": host namespaces (hostNetwork=true)",
                PodRejection::PodSecurity {
                    level: "baseline".to_owned(),
                    violations: "host namespaces (hostNetwork=true)".to_owned(),
                },
            ),
            (
                403,
                "pods \"p\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2",
                PodRejection::Quota {
                    words: "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2".to_owned(),
                },
            ),
            (
                403,
                "pods \"p\" is forbidden: failed quota: few: must specify limits.cpu for: agent",
                PodRejection::Quota {
                    words: "failed quota: few: must specify limits.cpu for: agent".to_owned(),
                },
            ),
            (
                400,
                "admission webhook \"validate.kyverno.svc-fail\" denied the request: registry not allowed",
                PodRejection::Policy {
                    words: "admission webhook \"validate.kyverno.svc-fail\" denied the request: registry not allowed"
                        .to_owned(),
                },
            ),
            (
                422,
                "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'images' with binding 'images' denied request: no",
                PodRejection::Policy {
                    words: "ValidatingAdmissionPolicy 'images' with binding 'images' denied request: no".to_owned(),
                },
            ),
            (
                403,
                "pods is forbidden: User \"jane\" cannot create resource \"pods\" in API group \"\" in the namespace \
                 \"prod\"",
                PodRejection::Forbidden {
                    words: "User \"jane\" cannot create resource \"pods\" in API group \"\" in the namespace \"prod\""
                        .to_owned(),
                },
            ),
            (
                403,
                "pods \"p\" is forbidden: unable to create new content in namespace prod because it is being terminated",
                PodRejection::NamespaceTerminating,
            ),
            (
                404,
                "namespaces \"prod\" not found",
                PodRejection::NamespaceNotFound {
                    name: "prod".to_owned(),
                },
            ),
            (
                403,
                "pods \"p\" is forbidden: unable to validate against any security context constraint: [provider \
                 \"anyuid\": Forbidden: not usable by user or serviceaccount]",
                PodRejection::SecurityContext {
                    words: "[provider \"anyuid\": Forbidden: not usable by user or serviceaccount]".to_owned(),
                },
            ),
            (
                403,
                "pods \"p\" is forbidden: maximum cpu usage per Container is 5m, but limit is 10m",
                other("maximum cpu usage per Container is 5m, but limit is 10m"),
            ),
            (500, "", other("")),
        ] {
            assert_eq!(read(code, message), expected, "{message}");
        }
    }
}
