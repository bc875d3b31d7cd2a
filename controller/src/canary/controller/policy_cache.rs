//! The policies of the API for the diagnosis of failing paths: read when paths fail, and kept for a minute.

use std::collections::BTreeMap;
use std::time::Duration;

use prober_core::evidence::policies::ApiPolicies;
use prober_core::time::Timestamp;
use tokio::time::timeout;

use crate::clock::steady;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::labels;
use crate::kubernetes::policy_list;

/// How long a reading is used.
const VALIDITY: Duration = Duration::from_mins(1);

/// The time limit of a reading. Examinations wait for it.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// The policies for the agents, as they were read last.
pub(super) struct PolicyCache {
    client: ApiClient,
    labels: BTreeMap<String, String>,
    last: Option<(Timestamp, ApiPolicies)>,
}

impl PolicyCache {
    /// Reads nothing yet.
    pub(super) fn new(client: ApiClient) -> Self {
        let of_agents = [
            (labels::NAME, labels::AGENT_NAME),
            (labels::PART_OF, labels::PROBER),
        ];
        Self {
            client,
            labels: of_agents
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            last: None,
        }
    }

    /// The policies that may deny packets of the agents; those of the last reading where the API server does not respond.
    pub(super) async fn policies(&mut self) -> ApiPolicies {
        let is_valid = |(at, _): &&(Timestamp, ApiPolicies)| steady().since(*at) < VALIDITY;
        if let Some((_, policies)) = self.last.as_ref().filter(is_valid) {
            return policies.clone();
        }
        let reading = policy_list::read(&self.client, &self.labels);
        match timeout(TIME_LIMIT, reading).await {
            Ok(policies) => {
                self.last = Some((steady(), policies.clone()));
                policies
            }
            Err(_) => self
                .last
                .as_ref()
                .map(|(_, policies)| policies.clone())
                .unwrap_or_default(),
        }
    }
}
