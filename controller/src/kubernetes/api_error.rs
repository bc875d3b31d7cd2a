//! What it means when an API server refuses or says nothing: one sentence that names the server, what was asked, and
//! what to do next.

use thiserror::Error;

/// Why an API server did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    /// No answer came.
    #[error(
        "the API server {server} could not be reached to {task}: {cause}; see that its address and certificate in the kubeconfig are \
         right, that it is up, and that this machine gets there (VPN, proxy): `kubectl version` asks it the same way"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What was asked.
        task: String,
        /// What went wrong, innermost.
        cause: String,
    },
    /// The kubeconfig's credentials could not be had, for instance because its plugin failed.
    #[error(
        "cannot log in to the API server {server}: {cause}; see that `kubectl get nodes` works with the same kubeconfig"
    )]
    Credentials {
        /// Its address.
        server: String,
        /// What went wrong.
        cause: String,
    },
    /// The credentials are not (or no longer) valid: HTTP 401.
    #[error(
        "the API server {server} does not know who is asking (401 {cause}): log in again, then `kubectl auth whoami` shows as whom"
    )]
    Unauthorized {
        /// Its address.
        server: String,
        /// Its words.
        cause: String,
    },
    /// It answered, and refused or failed.
    #[error("the API server {server} refused to {task}: {cause}")]
    Refused {
        /// Its address.
        server: String,
        /// What was asked.
        task: String,
        /// Its words.
        cause: String,
    },
    /// Another controller may act by now, so it was not asked at all.
    #[error(
        "did not {task}: this controller has not renewed its Lease in time, and another one may act; see that it reaches \
         the API server"
    )]
    NotLeading {
        /// What was to be asked.
        task: String,
    },
    /// It answered something that is no answer to the question.
    #[error(
        "the API server {server} gave an answer that cannot be used when it was asked to {task}: {cause}"
    )]
    InvalidResponse {
        /// Its address.
        server: String,
        /// What was asked.
        task: String,
        /// What went wrong.
        cause: String,
    },
}

impl ApiError {
    /// What `error` means when `server` was asked to do `task` ("list nodes").
    pub fn new(server: &str, task: &str, error: &kube::Error) -> Self {
        let (server, task) = (server.to_owned(), task.to_owned());
        if let kube::Error::Api(status) = error {
            let cause = status.message.clone();
            return match status.code {
                401 => Self::Unauthorized { server, cause },
                _ => Self::Refused {
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

/// Whether the client never got as far as asking. Middleware hands its errors on in a box.
fn is_credentials_error(error: &kube::Error) -> bool {
    let error = if let kube::Error::Service(inner) = error {
        inner.downcast_ref::<kube::Error>()
    } else {
        Some(error)
    };
    matches!(error, Some(kube::Error::Auth(_)))
}

/// The words of the innermost error, which is the one that happened; the others only pass it on.
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

    fn said(error: &kube::Error) -> String {
        ApiError::new(SERVER, "list nodes", error).to_string()
    }

    #[test]
    fn each_error_says_who_was_asked_for_what_and_what_to_do() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "ApiClient refused");
        let status = |code, message: &str| {
            let mut status = Status::failure(message, "");
            status.code = code;
            kube::Error::Api(status.boxed())
        };
        insta::assert_snapshot!(
            [
                said(&kube::Error::Service(Box::new(refused))),
                said(&status(401, "Unauthorized")),
                said(&status(
                    403,
                    "nodes is forbidden: User \"jane\" cannot list resource \"nodes\""
                )),
                said(&status(500, "etcdserver: request timed out")),
                said(&kube::Error::LinesCodecMaxLineLengthExceeded),
            ]
            .join("\n")
        );
    }
}
