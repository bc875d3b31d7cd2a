//! Leader election: the loop that acquires, renews and releases the Lease.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use prober_core::time::Timestamp;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::canary::lease::{DEADLINE, LeaseAction, LeaseClaim, PERIOD};
use crate::clock::{steady, wall};
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::fencing_token::FencingToken;
use crate::kubernetes::labels::PROBER;

/// The Lease's name.
pub const LEASE: &str = "prober-controller";

/// The timeout of a request for the Lease: several fit into the deadline of a leader.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The Lease was not renewed in time.
#[derive(Debug, Error)]
#[error(
    "the Lease {LEASE} in namespace {namespace} was not renewed for {} s, so another controller may lead: this one ends and restarts; \
     check that it reaches the API server{}",
    DEADLINE.as_secs(), .cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default()
)]
pub struct Lost {
    /// The namespace of the Lease.
    namespace: String,
    /// The last error.
    cause: Option<ApiError>,
}

/// The election loop of one controller.
pub(super) struct LeaderElection {
    connection: ApiClient,
    claim: LeaseClaim,
    fencing_token: FencingToken,
}

impl LeaderElection {
    /// `connection` needs no fencing token; `fencing_token` is extended while this controller leads.
    pub(super) fn new(
        connection: ApiClient,
        identity: String,
        fencing_token: FencingToken,
    ) -> Self {
        Self {
            connection,
            claim: LeaseClaim::new(identity),
            fencing_token,
        }
    }

    /// Runs until the Lease is lost or `stop` is true. It does not release the Lease.
    pub(super) async fn run(
        &mut self,
        leads: &watch::Sender<bool>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Lost> {
        loop {
            let cause = self.try_acquire().await.err();
            if let Some(error) = &cause {
                tracing::warn!(%error, "the Lease was not renewed");
            }
            let is_leading = self.claim.is_held(steady());
            let has_led = leads.send_replace(is_leading);
            if has_led && !is_leading {
                return Err(Lost {
                    namespace: self.connection.namespace.clone(),
                    cause,
                });
            }
            if is_leading && !has_led {
                tracing::info!(lease = LEASE, "leading");
            }
            tokio::select! {
                () = sleep(PERIOD) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    async fn try_acquire(&mut self) -> Result<(), ApiError> {
        let begun = steady();
        let lease = self.read().await?;
        let api = self.api();
        let params = PostParams {
            field_manager: Some(PROBER.to_owned()),
            ..PostParams::default()
        };
        let written = match self.claim.next_action(LEASE, lease.as_ref(), begun, wall()) {
            LeaseAction::Create(lease) => {
                let task = format!("create the Lease {LEASE}");
                self.written(&task, api.create(&params, &lease)).await?
            }
            LeaseAction::Replace(lease) => {
                let task = format!("renew the Lease {LEASE}");
                self.written(&task, api.replace(LEASE, &params, &lease))
                    .await?
            }
            LeaseAction::Wait => false,
        };
        if written {
            self.claim.acquired(begun);
            self.fencing_token.extend(begun + DEADLINE);
        }
        Ok(())
    }

    /// Releases the Lease, so that the next controller need not wait until it expires. This one sends nothing any more.
    pub(super) async fn release(&mut self) -> Result<(), ApiError> {
        self.fencing_token.extend(Timestamp::default());
        let lease = self.read().await?;
        let released = lease.and_then(|lease| self.claim.release(&lease));
        if let Some(lease) = released {
            let api = self.api();
            let params = PostParams::default();
            let task = format!("release the Lease {LEASE}");
            self.written(&task, api.replace(LEASE, &params, &lease))
                .await?;
        }
        Ok(())
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.connection.kube.clone(), &self.connection.namespace)
    }

    async fn read(&self) -> Result<Option<Lease>, ApiError> {
        let task = format!("read the Lease {LEASE}");
        let api = self.api();
        self.connection
            .request_within(REQUEST_TIMEOUT, &task, api.get_opt(LEASE))
            .await
    }

    /// Whether the Lease was written; false on a conflict, where another controller was first.
    async fn written(
        &self,
        task: &str,
        request: impl Future<Output = kube::Result<Lease>>,
    ) -> Result<bool, ApiError> {
        let request = async {
            match request.await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.connection
            .request_within(REQUEST_TIMEOUT, task, request)
            .await
    }
}
