//! Waits until every check is healthy: what `prober-controller wait-healthy` does, which `helm test` runs.

use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use tokio::time::sleep;

use super::crd::ConnectivityCheck;
use crate::clock::steady;
use crate::kubernetes::api_client::ApiClient;

/// The time between two requests.
const PERIOD: Duration = Duration::from_secs(2);

/// Why the checks are not healthy.
#[derive(Debug, thiserror::Error)]
pub enum NotHealthy {
    /// There is no check.
    #[error(
        "there is no ConnectivityCheck: apply deploy/examples/connectivitycheck.yaml, or install the chart with \
         check.create=true"
    )]
    NoCheck,
    /// These checks are not healthy, each with the reason.
    #[error("{}", .0.join("; "))]
    Checks(Vec<String>),
    /// The API server did not list them.
    #[error(transparent)]
    Api(#[from] crate::kubernetes::api_error::ApiError),
}

/// Waits until every ConnectivityCheck is healthy: a line for each.
///
/// # Errors
///
/// If they are not after `timeout`, with the last reason.
pub async fn wait_healthy(
    client: &ApiClient,
    timeout: Duration,
) -> Result<Vec<String>, NotHealthy> {
    let began = steady();
    loop {
        let reason = match list(client).await.and_then(|checks| verdict(&checks)) {
            Ok(lines) => return Ok(lines),
            Err(reason) => reason,
        };
        if steady().since(began) + PERIOD > timeout {
            return Err(reason);
        }
        sleep(PERIOD).await;
    }
}

async fn list(client: &ApiClient) -> Result<Vec<ConnectivityCheck>, NotHealthy> {
    let api: Api<ConnectivityCheck> = Api::all(client.kube.clone());
    let params = ListParams::default();
    let listed = client
        .request("list the ConnectivityChecks", api.list(&params))
        .await?;
    Ok(listed.items)
}

fn verdict(checks: &[ConnectivityCheck]) -> Result<Vec<String>, NotHealthy> {
    if checks.is_empty() {
        return Err(NotHealthy::NoCheck);
    }
    let mut healthy = Vec::new();
    let mut reasons = Vec::new();
    for check in checks {
        let name = check.name_any();
        match state(check) {
            Ok(share) => healthy.push(format!("{name}: healthy, {share} nodes are measured")),
            Err(reason) => reasons.push(format!("{name}: {reason}")),
        }
    }
    if reasons.is_empty() {
        Ok(healthy)
    } else {
        Err(NotHealthy::Checks(reasons))
    }
}

/// The share of nodes that a healthy check measures, or why it is not healthy.
fn state(check: &ConnectivityCheck) -> Result<&str, String> {
    let Some(status) = &check.status else {
        return Err("it has no status: does a controller lead?".to_owned());
    };
    if status.observed_generation != check.metadata.generation {
        return Err("its status is not of its current spec: does a controller lead?".to_owned());
    }
    let condition = (status.conditions.iter()).find(|condition| condition.type_ == "Healthy");
    let Some(condition) = condition else {
        return Err("it has no condition Healthy".to_owned());
    };
    if condition.status != "True" {
        let message = &condition.message;
        return Err(format!("Healthy={}: {message}", condition.status));
    }
    let nodes = status.nodes.unwrap_or_default();
    if nodes.starting + nodes.alerting > 0 {
        return Err(format!(
            "agents of {} nodes start, and those of {} alert",
            nodes.starting, nodes.alerting
        ));
    }
    Ok((status.coverage.as_ref()).map_or("no", |coverage| coverage.share.as_str()))
}

#[cfg(test)]
mod tests;
