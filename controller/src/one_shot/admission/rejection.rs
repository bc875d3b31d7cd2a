//! Classifies the rejection of a pod by the admission chain. The API reports no reason code, so the message is parsed.

use kube::core::Status;
use thiserror::Error;

/// Why a pod is not admitted. Messages are those of the API server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PodRejection {
    /// Pod Security admission: <https://kubernetes.io/docs/concepts/security/pod-security-admission/>
    #[error("the namespace enforces Pod Security {level}: {violations}")]
    PodSecurity {
        /// `baseline` or `restricted`.
        level: String,
        /// The violations.
        violations: String,
    },
    /// A security context constraint of OpenShift.
    #[error("no security context constraint of this user admits the pod: {reason}")]
    SecurityContext {
        /// The constraints, and why each rejects the pod.
        reason: String,
    },
    /// <https://kubernetes.io/docs/concepts/policy/resource-quotas/>
    #[error(
        "{reason}: `kubectl describe quota` shows what is used; raise it, wait, or use another namespace (-n)"
    )]
    Quota {
        /// The quota, and the amount by which it is exceeded.
        reason: String,
    },
    /// An admission webhook or a `ValidatingAdmissionPolicy`.
    #[error("a policy of this cluster rejects it: {reason}")]
    Policy {
        /// The name and reason of the policy.
        reason: String,
    },
    /// The user may not create pods in the namespace.
    #[error("{reason}")]
    Forbidden {
        /// The user and the missing permission.
        reason: String,
    },
    /// The namespace does not exist.
    #[error(
        "there is no namespace {name:?}: `kubectl get namespaces` lists them, -n chooses another"
    )]
    NamespaceNotFound {
        /// Its name.
        name: String,
    },
    /// The namespace is being deleted.
    #[error("the namespace is being deleted: wait, or use another (-n)")]
    NamespaceTerminating,
    /// Another reason, for instance a `LimitRange`.
    #[error("{reason}")]
    Other {
        /// The message.
        reason: String,
    },
}

impl PodRejection {
    /// Classifies the error status of a request to create a pod in `namespace`.
    pub fn from_status(namespace: &str, status: &Status) -> Self {
        let message = status.message.as_str();
        // `pods "NAME" is forbidden: MESSAGE`
        let (is_forbidden, reason) = match message.split_once(" is forbidden: ") {
            Some((_, reason)) => (true, reason),
            None => (false, message),
        };
        let owned = |reason: &str| reason.trim().to_owned();
        if status.code == 404 && message.starts_with("namespaces ") {
            return Self::NamespaceNotFound {
                name: namespace.to_owned(),
            };
        }
        if let Some((level, violations)) = pod_security(reason) {
            return Self::PodSecurity {
                level: owned(level),
                violations: owned(violations),
            };
        }
        if reason.starts_with("unable to validate against any security context constraint") {
            return Self::SecurityContext {
                reason: owned(reason.split_once(": ").map_or(reason, |(_, tried)| tried)),
            };
        }
        if reason.starts_with("exceeded quota: ") || reason.starts_with("failed quota: ") {
            return Self::Quota {
                reason: owned(reason),
            };
        }
        if message.starts_with("admission webhook ")
            || reason.starts_with("ValidatingAdmissionPolicy ")
        {
            return Self::Policy {
                reason: owned(reason),
            };
        }
        if reason.contains("because it is being terminated") {
            return Self::NamespaceTerminating;
        }
        if is_forbidden && reason.starts_with("User ") && reason.contains(" cannot ") {
            return Self::Forbidden {
                reason: owned(reason),
            };
        }
        Self::Other {
            reason: owned(reason),
        }
    }
}

/// `violates PodSecurity "LEVEL:VERSION": VIOLATIONS`
fn pod_security(reason: &str) -> Option<(&str, &str)> {
    let (policy, violations) = reason
        .strip_prefix("violates PodSecurity \"")?
        .split_once("\": ")?;
    let (level, _version) = policy.split_once(':')?;
    Some((level, violations))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(code: u16, message: &str) -> PodRejection {
        let mut status = Status::failure(message, "");
        status.code = code;
        PodRejection::from_status("prod", &status)
    }

    #[test]
    fn a_rejection_is_classified_by_its_message() {
        let other = |reason: &str| PodRejection::Other {
            reason: reason.to_owned(),
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
                    reason: "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2".to_owned(),
                },
            ),
            (
                403,
                "pods \"p\" is forbidden: failed quota: few: must specify limits.cpu for: agent",
                PodRejection::Quota {
                    reason: "failed quota: few: must specify limits.cpu for: agent".to_owned(),
                },
            ),
            (
                400,
                "admission webhook \"validate.kyverno.svc-fail\" denied the request: registry not allowed",
                PodRejection::Policy {
                    reason: "admission webhook \"validate.kyverno.svc-fail\" denied the request: registry not allowed"
                        .to_owned(),
                },
            ),
            (
                422,
                "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'images' with binding 'images' denied request: no",
                PodRejection::Policy {
                    reason: "ValidatingAdmissionPolicy 'images' with binding 'images' denied request: no".to_owned(),
                },
            ),
            (
                403,
                "pods is forbidden: User \"jane\" cannot create resource \"pods\" in API group \"\" in the namespace \
                 \"prod\"",
                PodRejection::Forbidden {
                    reason: "User \"jane\" cannot create resource \"pods\" in API group \"\" in the namespace \"prod\""
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
                    reason: "[provider \"anyuid\": Forbidden: not usable by user or serviceaccount]".to_owned(),
                },
            ),
            (
                403,
                "pods \"p\" is forbidden: maximum cpu usage per Container is 5m, but limit is 10m",
                other("maximum cpu usage per Container is 5m, but limit is 10m"),
            ),
            (500, "", other("")),
        ] {
            assert_eq!(classify(code, message), expected, "{message}");
        }
    }
}
