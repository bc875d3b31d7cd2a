//! Reads the facts of the node in a blocking thread: kube-proxy may answer slowly, and probes must not wait for it.

use std::sync::Arc;
use std::time::Duration;

use prober_core::node_facts::ConntrackRequest;
use prober_net::node_facts::{ConntrackTable, read_facts, read_facts_with_conntrack};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::engine::events::{EngineEvent, EngineEventSender, FactsResult};

/// The connections of which conntrack entries are read.
#[derive(Debug)]
pub(crate) struct TrackedConnections {
    /// The table.
    pub(crate) table: Arc<ConntrackTable>,
    /// Which connections.
    pub(crate) request: ConntrackRequest,
}

/// Reads the facts now, with the entries of these connections.
pub(crate) async fn read_node_facts(tracked: Option<TrackedConnections>) -> FactsResult {
    let read = move || match tracked {
        None => read_facts(),
        Some(tracked) => read_facts_with_conntrack(&tracked.table, &tracked.request),
    };
    (spawn_blocking(read).await).map(Box::new).map_err(|error| {
        format!("the facts of this node were not read, their reader ended: {error}")
    })
}

/// Reads the facts after a delay, for the plan with this generation.
pub(crate) async fn read_node_facts_later(
    generation: u32,
    after: Duration,
    tracked: Option<TrackedConnections>,
    events: EngineEventSender,
) {
    sleep(after).await;
    let facts = read_node_facts(tracked).await;
    // Without a receiver the agent has ended.
    drop(events.send(EngineEvent::NodeFacts(generation, facts)));
}
