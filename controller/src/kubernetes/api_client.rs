//! A client of one API server: each request ends within a time limit and is counted, and its error says what it was for.

use std::time::Duration;

use kube::Client;

use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::fencing_token::FencingToken;
use crate::kubernetes::request_count::RequestCount;

/// How long an API server may take to answer: its admission webhooks have ten seconds each unless told otherwise.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// A cluster that can be asked. No request has been made yet.
#[derive(Clone)]
pub struct ApiClient {
    /// Asks it.
    pub kube: Client,
    /// Where everything is placed.
    pub namespace: String,
    /// The API server's address, for messages.
    pub server: String,
    /// How often it was asked.
    pub request_count: RequestCount,
    /// Whether it may be asked.
    pub fencing_token: FencingToken,
}

impl ApiClient {
    /// What `error` means when the API server was asked to do `task` ("list nodes").
    pub fn explain_error(&self, task: &str, error: &kube::Error) -> ApiError {
        ApiError::new(&self.server, task, error)
    }

    /// The answer to a request that was made to do `task`, or why there is none. A server that has stopped, or a
    /// network that swallows, would otherwise be waited for without end.
    pub fn request<T>(
        &self,
        task: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> impl Future<Output = Result<T, ApiError>> {
        self.request_within(ANSWER_TIMEOUT, task, request)
    }

    /// As [`Self::ask`], for who can wait no longer than `patience`.
    pub async fn request_within<T>(
        &self,
        patience: Duration,
        task: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApiError> {
        if !self.fencing_token.is_valid() {
            return Err(ApiError::NotLeading {
                task: task.to_owned(),
            });
        }
        match tokio::time::timeout(patience, request).await {
            Ok(answer) => answer.map_err(|error| self.explain_error(task, &error)),
            Err(_) => Err(ApiError::Unreachable {
                server: self.server.clone(),
                task: task.to_owned(),
                cause: format!("no answer for {} s", patience.as_secs()),
            }),
        }
    }
}
