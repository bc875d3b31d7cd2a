//! Standing for election for as long as the controller runs: the Lease is read, taken and renewed.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::canary::lease::{DEADLINE, Election, PERIOD, Step};
use crate::clock::{steady, wall};
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::fencing_token::FencingToken;
use crate::kubernetes::labels::PROBER;

/// The Lease's name.
pub const LEASE: &str = "prober-controller";

/// How long a request for the Lease may take: several fit before its holder has to stop.
const PATIENCE: Duration = Duration::from_secs(3);

/// It led, and does not any more.
#[derive(Debug, Error)]
#[error(
    "the Lease {LEASE} in namespace {namespace} was not renewed for {} s, so another controller may act: this one ends, to \
     begin anew; see that it reaches the API server{}",
    DEADLINE.as_secs(), .cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default()
)]
pub struct Lost {
    /// Where the Lease is.
    namespace: String,
    /// The last thing that went wrong.
    cause: Option<ApiError>,
}

/// One candidate.
pub(super) struct Campaign {
    connection: ApiClient,
    election: Election,
    permit: FencingToken,
}

impl Campaign {
    /// Asks by `connection`, which needs no permit; `permit` holds while it leads.
    pub(super) fn new(connection: ApiClient, identity: String, permit: FencingToken) -> Self {
        Self {
            connection,
            election: Election::new(identity),
            permit,
        }
    }

    /// Runs until the lead is lost, or `stop` comes; then the Lease is not given back yet.
    pub(super) async fn run(
        &mut self,
        leads: &watch::Sender<bool>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Lost> {
        loop {
            let cause = self.step().await.err();
            if let Some(error) = &cause {
                tracing::warn!(%error, "the Lease was not renewed");
            }
            let is_leading = self.election.leads(steady());
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

    async fn step(&mut self) -> Result<(), ApiError> {
        let begun = steady();
        let lease = self.read().await?;
        let api = self.api();
        let params = PostParams {
            field_manager: Some(PROBER.to_owned()),
            ..PostParams::default()
        };
        let written = match self.election.step(LEASE, lease.as_ref(), begun, wall()) {
            Step::Create(lease) => {
                let task = format!("create the Lease {LEASE}");
                self.written(&task, api.create(&params, &lease)).await?
            }
            Step::Replace(lease) => {
                let task = format!("renew the Lease {LEASE}");
                self.written(&task, api.replace(LEASE, &params, &lease))
                    .await?
            }
            Step::Wait => false,
        };
        if written {
            self.election.won(begun);
            self.permit.extend(begun + DEADLINE);
        }
        Ok(())
    }

    /// Gives the Lease back, so that nobody waits for it to run out.
    pub(super) async fn resign(&mut self) -> Result<(), ApiError> {
        let lease = self.read().await?;
        let released = lease.and_then(|lease| self.election.release(&lease));
        if let Some(lease) = released {
            let api = self.api();
            let params = PostParams::default();
            let task = format!("give back the Lease {LEASE}");
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
            .request_within(PATIENCE, &task, api.get_opt(LEASE))
            .await
    }

    /// Whether it was written; a conflict says that somebody else was first.
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
            .request_within(PATIENCE, task, request)
            .await
    }
}
