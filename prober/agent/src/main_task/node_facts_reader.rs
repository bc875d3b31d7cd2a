//! Reads the facts of the node in a blocking thread: kube-proxy may answer slowly, and probes must not wait for it.

use std::time::Duration;

use prober_net::node_facts::read_facts;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::engine::events::{EngineEvent, EngineEventSender, FactsResult};

/// Reads the facts now.
pub(crate) async fn read_node_facts() -> FactsResult {
    (spawn_blocking(read_facts).await)
        .map(Box::new)
        .map_err(|error| {
            format!("the facts of this node were not read, their reader ended: {error}")
        })
}

/// Reads the facts after a delay, for the plan with this generation.
pub(crate) async fn read_node_facts_later(
    generation: u32,
    after: Duration,
    events: EngineEventSender,
) {
    sleep(after).await;
    // Without a receiver the agent has ended.
    drop(events.send(EngineEvent::NodeFacts(generation, read_node_facts().await)));
}
