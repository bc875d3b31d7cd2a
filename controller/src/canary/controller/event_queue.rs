//! The Events that are to be created: each is created once, after the status that it refers to is written.
//!
//! A controller that dies in between leaves a correct status and omits an Event, but never repeats one: its successor
//! continues from the status.

use std::collections::VecDeque;

use prober_core::time::Timestamp;

use crate::canary::events::{CheckEvent, events_of};
use crate::canary::health::Transition;
use crate::clock::wall;

/// The most Events that wait; beyond that the oldest is dropped, while the API server is not reachable.
const MAX_PENDING: usize = 256;

/// An Event that is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PendingEvent {
    pub(super) event: CheckEvent,
    /// When it happened.
    pub(super) at: Timestamp,
    /// The suffix of its name: the same for each attempt, and unique among Events.
    pub(super) nonce: u64,
}

/// The Events that wait, in order.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    waiting: VecDeque<PendingEvent>,
}

impl EventQueue {
    /// Adds the Events of these transitions. `nonce` returns a random number.
    pub(super) fn push(
        &mut self,
        check: &str,
        transitions: &[Transition],
        nonce: impl Fn() -> u64,
    ) {
        for event in transitions.iter().flat_map(events_of) {
            let (reason, note) = (event.reason, &event.note);
            tracing::info!(check, reason, note, "transition");
            self.waiting.push_back(PendingEvent {
                event,
                at: wall(),
                nonce: nonce(),
            });
        }
        while self.waiting.len() > MAX_PENDING {
            if let Some(lost) = self.waiting.pop_front() {
                let (reason, note) = (lost.event.reason, lost.event.note);
                tracing::warn!(check, reason, note, "an Event is lost");
            }
        }
    }

    /// The Event that is to be created next.
    pub(super) fn next(&self) -> Option<&PendingEvent> {
        self.waiting.front()
    }

    /// Removes an Event that was created, or that the API server has refused for good.
    pub(super) fn remove(&mut self, event: &PendingEvent) {
        self.waiting.retain(|waiting| waiting != event);
    }
}
