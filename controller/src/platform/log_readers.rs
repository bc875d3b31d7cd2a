//! The log readers of a run, which are paused and resumed together.

use std::net::IpAddr;
use std::sync::Arc;

use prober_core::run::PlatformEvent;
use prober_core::topology::AgentId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::platform::api_calls::ApiCalls;
use crate::platform::log_reader::{LogSource, ReadControl, follow_log};

/// Logs that are opened at the same time. The API server sends a request to a kubelet for each.
const MAX_OPENING: usize = 16;

/// One task for each agent whose log is followed.
pub(super) struct LogReaders {
    is_enabled: watch::Sender<bool>,
    opening_permits: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl LogReaders {
    pub(super) fn new() -> Self {
        Self {
            is_enabled: watch::Sender::new(true),
            opening_permits: Arc::new(Semaphore::new(MAX_OPENING)),
            tasks: JoinSet::new(),
        }
    }

    /// Starts to follow the log of an agent, whose pod has these addresses.
    pub(super) fn start(
        &mut self,
        calls: ApiCalls,
        agent: AgentId,
        pod_ips: Vec<IpAddr>,
        events: UnboundedSender<PlatformEvent>,
    ) {
        let control = ReadControl {
            is_enabled: self.is_enabled.subscribe(),
            opening_permits: Arc::clone(&self.opening_permits),
        };
        let source = LogSource { agent, pod_ips };
        self.tasks.spawn(follow_log(calls, source, control, events));
    }

    /// Pauses all readers, or resumes each from the line where it was paused.
    pub(super) fn set_enabled(&self, is_enabled: bool) {
        self.is_enabled.send_replace(is_enabled);
    }

    pub(super) fn are_enabled(&self) -> bool {
        *self.is_enabled.borrow()
    }

    /// Ends all readers.
    pub(super) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}
