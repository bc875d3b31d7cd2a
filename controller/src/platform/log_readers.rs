//! All followers of a run: they read together, or wait together until they are to read on.

use std::sync::Arc;

use prober_core::run::PlatformEvent;
use prober_core::topology::AgentId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::platform::api_calls::ApiCalls;
use crate::platform::log_reader::{ReadControl, follow};

/// Logs that are opened at a time: the API server asks a kubelet for each.
const OPENINGS: usize = 16;

/// See the module's documentation.
pub(super) struct LogReaders {
    listening: watch::Sender<bool>,
    openings: Arc<Semaphore>,
    followers: JoinSet<()>,
}

impl LogReaders {
    pub(super) fn new() -> Self {
        Self {
            listening: watch::Sender::new(true),
            openings: Arc::new(Semaphore::new(OPENINGS)),
            followers: JoinSet::new(),
        }
    }

    /// Reads this agent with all others.
    pub(super) fn follow(
        &mut self,
        calls: ApiCalls,
        agent: AgentId,
        events: UnboundedSender<PlatformEvent>,
    ) {
        let ear = ReadControl {
            listening: self.listening.subscribe(),
            openings: Arc::clone(&self.openings),
        };
        self.followers.spawn(follow(calls, agent, ear, events));
    }

    /// Reads nobody, or everybody from where they were left.
    pub(super) fn listen(&self, listening: bool) {
        self.listening.send_replace(listening);
    }

    pub(super) fn are_listening(&self) -> bool {
        *self.listening.borrow()
    }

    /// Reads nobody any more.
    pub(super) async fn close(&mut self) {
        self.followers.shutdown().await;
    }
}
