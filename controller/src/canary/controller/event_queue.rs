//! Events on their way: each is told once, and not before the status holds what it is about.
//!
//! A controller that dies in between leaves a status that is right and an Event too few, never one too many: its successor
//! goes on from the status.

use std::collections::VecDeque;

use prober_core::time::Timestamp;

use super::World;
use crate::canary::controller::node_watch::Nodes;
use crate::canary::crd::ConnectivityCheck;
use crate::canary::events::{Notice, notices};
use crate::canary::health::Transition;
use crate::clock::wall;
use crate::kubernetes::api_error::ApiError;

/// Events that wait at most; the oldest is lost where an API server stays away for longer.
const MOST: usize = 256;

/// One Event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) notice: Notice,
    /// When it happened.
    pub(super) at: Timestamp,
    /// What tells it from all others, however often it is tried.
    pub(super) nonce: u64,
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    waiting: VecDeque<Announcement>,
}

impl Announcements {
    /// Takes what has changed.
    pub(super) fn take(&mut self, world: &World, check: &str, transitions: &[Transition]) {
        for notice in transitions.iter().flat_map(notices) {
            let (reason, note) = (notice.reason, &notice.note);
            tracing::info!(check, reason, note, "transition");
            self.waiting.push_back(Announcement {
                notice,
                at: wall(),
                nonce: world.nonce(),
            });
        }
        while self.waiting.len() > MOST {
            if let Some(lost) = self.waiting.pop_front() {
                let (reason, note) = (lost.notice.reason, lost.notice.note);
                tracing::warn!(check, reason, note, "an Event is lost");
            }
        }
    }

    /// Tells them in their order; what could not be told waits for the next time.
    pub(super) async fn tell(
        &mut self,
        world: &World,
        check: &ConnectivityCheck,
        nodes: &Nodes,
    ) -> Result<(), ApiError> {
        while let Some(next) = self.waiting.front() {
            world.teller.event(check, nodes, next).await?;
            self.waiting.pop_front();
        }
        Ok(())
    }
}
