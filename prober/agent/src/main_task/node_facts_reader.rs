//! Reading what the node says of itself, on a thread of its own: kube-proxy may take its time to say its mode, and probes
//! must not wait for it.

use std::time::Duration;

use prober_net::node_facts::read_facts;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::engine::events::{EngineEvent, EngineEventSender, FactsResult};

/// Reads it now.
pub(crate) async fn read() -> FactsResult {
    (spawn_blocking(read_facts).await)
        .map(Box::new)
        .map_err(|error| {
            format!("the facts of this node were not read, their reader ended: {error}")
        })
}

/// Reads it after a while, for the plan with this generation.
pub(crate) async fn read_later(generation: u32, after: Duration, events: EngineEventSender) {
    sleep(after).await;
    // Who does not listen any more has ended.
    drop(events.send(EngineEvent::NodeFacts(generation, read().await)));
}
