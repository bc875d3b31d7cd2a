//! The errors of requests to an API server: each names the server, the task and what to do next.

use thiserror::Error;

/// Why a request to an API server failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    /// The server did not respond.
    #[error(
        "the API server {server} could not be reached to {task}: {cause}; check that the server is up, that its address \
         and certificate in the kubeconfig are right, and that this machine reaches it (VPN, proxy): `kubectl version` \
         sends it the same kind of request"
    )]
    Unreachable {
        /// The URL of the server.
        server: String,
        /// The purpose of the request.
        task: String,
        /// The innermost error.
        cause: String,
    },
    /// The client could not obtain the kubeconfig's credentials, for instance because an exec plugin failed.
    #[error(
        "cannot log in to the API server {server}: {cause}; check that `kubectl get nodes` works with the same kubeconfig"
    )]
    Credentials {
        /// The URL of the server.
        server: String,
        /// The innermost error.
        cause: String,
    },
    /// The credentials are invalid or have expired: HTTP 401.
    #[error(
        "the API server {server} does not accept the credentials (401 {cause}): log in again; `kubectl auth whoami` then \
         shows the user"
    )]
    Unauthorized {
        /// The URL of the server.
        server: String,
        /// The message of the response.
        cause: String,
    },
    /// The server responded with another error status.
    #[error("the API server {server} refused to {task}: {cause}")]
    Refused {
        /// The HTTP status code.
        code: u16,
        /// The URL of the server.
        server: String,
        /// The purpose of the request.
        task: String,
        /// The message of the response.
        cause: String,
    },
    /// The request was not sent, because another controller may be the leader by now.
    #[error(
        "did not {task}: this controller has not renewed its Lease in time, and another one may lead; check that it \
         reaches the API server"
    )]
    NotLeading {
        /// The purpose of the request.
        task: String,
    },
    /// The server's response cannot be used.
    #[error(
        "the API server {server} sent a response that cannot be used to the request to {task}: {cause}"
    )]
    InvalidResponse {
        /// The URL of the server.
        server: String,
        /// The purpose of the request.
        task: String,
        /// The innermost error.
        cause: String,
    },
}

impl ApiError {
    /// Whether the server has refused the request for what it is, so that it would refuse it again: not found, forbidden,
    /// invalid, but not overloaded, or in conflict with another.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                *code >= 400 && *code < 500 && *code != 408 && *code != 409 && *code != 429
            }
            Self::Unreachable { .. }
            | Self::Credentials { .. }
            | Self::Unauthorized { .. }
            | Self::NotLeading { .. }
            | Self::InvalidResponse { .. } => false,
        }
    }

    /// Classifies the error of a request that was sent to `server` to do `task` ("list nodes").
    pub fn new(server: &str, task: &str, error: &kube::Error) -> Self {
        let (server, task) = (server.to_owned(), task.to_owned());
        if let kube::Error::Api(status) = error {
            let cause = status.message.clone();
            return match status.code {
                401 => Self::Unauthorized { server, cause },
                code => Self::Refused {
                    code,
                    server,
                    task,
                    cause,
                },
            };
        }
        let cause = root_cause(error);
        if is_credentials_error(error) {
            Self::Credentials { server, cause }
        } else if matches!(
            error,
            kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_)
        ) {
            Self::Unreachable {
                server,
                task,
                cause,
            }
        } else {
            Self::InvalidResponse {
                server,
                task,
                cause,
            }
        }
    }
}

impl ApiError {
    /// Whether the same request may succeed later: the server cannot be reached, is restarted, or is busy.
    ///
    /// <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#error-codes>
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => matches!(code, 429 | 500 | 502 | 503 | 504),
            Self::Credentials { .. }
            | Self::Unauthorized { .. }
            | Self::NotLeading { .. }
            | Self::InvalidResponse { .. } => false,
        }
    }
}

/// Whether the error arose while credentials were obtained, before the request was sent. Tower middleware boxes its errors.
fn is_credentials_error(error: &kube::Error) -> bool {
    let error = if let kube::Error::Service(inner) = error {
        inner.downcast_ref::<kube::Error>()
    } else {
        Some(error)
    };
    matches!(error, Some(kube::Error::Auth(_)))
}

/// The message of the innermost error: the outer ones only wrap it.
fn root_cause(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::Status;

    use super::*;

    const SERVER: &str = "https://10.99.0.1:6443";

    fn message(error: &kube::Error) -> String {
        ApiError::new(SERVER, "list nodes", error).to_string()
    }

    #[test]
    fn requests_are_repeated_where_the_server_is_away_or_busy() {
        let of_status = |code| {
            let mut status = Status::failure("", "");
            status.code = code;
            ApiError::new(SERVER, "list nodes", &kube::Error::Api(status.boxed()))
        };
        for code in [429, 500, 502, 503, 504] {
            assert!(of_status(code).is_retryable(), "{code}");
        }
        for code in [400, 401, 403, 404, 409, 422] {
            assert!(!of_status(code).is_retryable(), "{code}");
        }
        let reset = io::Error::new(io::ErrorKind::ConnectionReset, "reset");
        let reset = kube::Error::Service(Box::new(reset));
        assert!(ApiError::new(SERVER, "list nodes", &reset).is_retryable());
    }

    #[test]
    fn each_error_names_the_server_the_task_and_the_remedy() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "Connection refused");
        let status = |code, text: &str| {
            let mut status = Status::failure(text, "");
            status.code = code;
            kube::Error::Api(status.boxed())
        };
        insta::assert_snapshot!(
            [
                message(&kube::Error::Service(Box::new(refused))),
                message(&status(401, "Unauthorized")),
                message(&status(
                    403,
                    "nodes is forbidden: User \"jane\" cannot list resource \"nodes\""
                )),
                message(&status(500, "etcdserver: request timed out")),
                message(&kube::Error::LinesCodecMaxLineLengthExceeded),
            ]
            .join("\n")
        );
    }
}
