//! A client of one API server: it limits the time of each request, counts it, and names its purpose in its error.

use std::time::Duration;

use kube::Client;

use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::fencing_token::FencingToken;
use crate::kubernetes::request_count::RequestCount;

/// The time limit of a request. Admission webhooks take up to ten seconds each by default.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// A client of one API server and one namespace.
#[derive(Clone)]
pub struct ApiClient {
    /// The client of kube-rs.
    pub kube: Client,
    /// The namespace of the run's objects.
    pub namespace: String,
    /// The URL of the API server, for messages.
    pub server: String,
    /// Counts the requests.
    pub request_count: RequestCount,
    /// Whether requests may be sent.
    pub fencing_token: FencingToken,
}

impl ApiClient {
    /// Classifies the error of a request that was sent to do `task` ("list nodes").
    pub fn explain_error(&self, task: &str, error: &kube::Error) -> ApiError {
        ApiError::new(&self.server, task, error)
    }

    /// Sends a request to do `task` and returns its response. The time limit covers servers that have stopped and networks
    /// that drop packets silently.
    ///
    /// # Errors
    ///
    /// If the request fails, is refused, takes longer than 15 s, or the fencing token has expired.
    pub fn request<T>(
        &self,
        task: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> impl Future<Output = Result<T, ApiError>> {
        self.request_within(RESPONSE_TIMEOUT, task, request)
    }

    /// Sends a request as [`Self::request`] does, with another time limit.
    ///
    /// # Errors
    ///
    /// As [`Self::request`].
    pub async fn request_within<T>(
        &self,
        timeout: Duration,
        task: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApiError> {
        if !self.fencing_token.is_valid() {
            return Err(ApiError::NotLeading {
                task: task.to_owned(),
            });
        }
        match tokio::time::timeout(timeout, request).await {
            Ok(response) => response.map_err(|error| self.explain_error(task, &error)),
            Err(_) => Err(ApiError::Unreachable {
                server: self.server.clone(),
                task: task.to_owned(),
                cause: format!("no response within {} s", timeout.as_secs()),
            }),
        }
    }
}
