//! Reads the facts of the node in a blocking thread: kube-proxy may answer slowly, and probes must not wait for it.

use std::sync::Arc;
use std::time::Duration;

use prober_core::node_facts::ConntrackRequest;
use prober_core::plan::{NodeFactsReading, Plan};
use prober_net::node_facts::{ConntrackTable, read_facts, read_facts_with_conntrack};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::MainTask;
use crate::engine::events::{EngineEvent, EngineEventSender, FactsResult};

/// The connections of which conntrack entries are read.
#[derive(Debug)]
struct TrackedConnections {
    /// The table.
    table: Arc<ConntrackTable>,
    /// Which connections.
    request: ConntrackRequest,
}

impl MainTask {
    /// Reads and reports the facts that a plan requests now, and starts the reading that it requests for later.
    pub(super) async fn read_facts(&mut self, number: u32, plan: &Plan) {
        let tracked = (plan.conntrack.as_ref()).map(|request| TrackedConnections {
            table: Arc::clone(&self.config.conntrack),
            request: request.as_ref().clone(),
        });
        match plan.facts {
            NodeFactsReading::Skip => {}
            NodeFactsReading::Once => self.report_facts(read_now(tracked).await),
            NodeFactsReading::Twice { after_ms } => {
                self.report_facts(read_now(None).await);
                let after = Duration::from_millis(after_ms.into());
                let events = self.events.clone();
                (self.connect_tasks).spawn_local(read_later(number, after, tracked, events));
            }
        }
    }
}

/// Reads the facts now, with the entries of these connections.
async fn read_now(tracked: Option<TrackedConnections>) -> FactsResult {
    let read = move || match tracked {
        None => read_facts(),
        Some(tracked) => read_facts_with_conntrack(&tracked.table, &tracked.request),
    };
    (spawn_blocking(read).await).map(Box::new).map_err(|error| {
        format!("the facts of this node were not read, their reader ended: {error}")
    })
}

/// Reads the facts after a delay, for the plan with this number.
async fn read_later(
    number: u32,
    after: Duration,
    tracked: Option<TrackedConnections>,
    events: EngineEventSender,
) {
    sleep(after).await;
    let facts = read_now(tracked).await;
    events.send(EngineEvent::NodeFacts(number, facts));
}
