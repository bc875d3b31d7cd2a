//! Standing agents as the platform of a run: their pods run already, and stay.
//!
//! A run borrows the pods of a few nodes: it writes its plans to their annotations, follows their logs from the end, and
//! uses slots of the standing Service. Its removal gives all of that back.

/// Executes the commands of a run.
mod agents;
/// The addresses of the standing Services for a run.
mod publication;
/// The slots of the standing Service and their EndpointSlices.
pub mod slot_board;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use prober_core::run::{PlatformCommand, PlatformEvent};
use prober_core::topology::NodeName;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::kubernetes::api_client::ApiClient;
use agents::StandingAgents;
use slot_board::SlotBoard;

/// The standing agents that a run uses.
#[derive(Clone, Debug)]
pub struct StandingConfig {
    /// The name of the run, which agents repeat in their `hello`.
    pub run: String,
    /// The pods, by name. An agent without a pod here is reported as failed.
    pub pods: BTreeMap<String, StandingPod>,
    /// The internal addresses of their nodes, at which node ports are reached.
    pub nodes: BTreeMap<NodeName, Vec<IpAddr>>,
    /// The slots of the standing Service, which all runs share.
    pub slots: SlotBoard,
    /// How long an agent may take to greet the run, counted from its placement.
    pub startup_timeout: Duration,
}

/// A pod of a standing agent, as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingPod {
    /// Its uid: a plan for it reaches no later pod of the same name.
    pub uid: String,
    /// Its `status.podIPs`.
    pub addresses: Vec<IpAddr>,
}

/// Standing agents that execute the commands of a run.
#[derive(Debug)]
pub struct StandingPlatform;

impl StandingPlatform {
    /// Executes commands until their sender is dropped, then gives back what the run used.
    pub async fn serve(
        client: ApiClient,
        config: StandingConfig,
        commands: UnboundedReceiver<PlatformCommand>,
        events: UnboundedSender<PlatformEvent>,
    ) {
        StandingAgents::new(client, config, events)
            .run(commands)
            .await;
    }
}
