//! The plans of runs in a standing agent: each run is greeted, bounded, and ends when its plan is taken away.

use std::time::Duration;

use prober_core::plan::{AcceptMode, LogReading, Plan, PlanError, ResponderPlan};
use prober_core::probe::event::{Event, Hello};
use prober_core::probe::in_flight::pacing::Pace;
use prober_net::packet_socket::now;

use super::MainTask;
use crate::engine::commands::{PacketCommand, RawPlan};
use crate::engine::events::PlanId;
use crate::plan::progress::PlanProgress;

/// A run whose plans are done and not taken away for so long is over: its controller is gone.
const MAX_SILENCE: Duration = Duration::from_mins(5);

impl MainTask {
    /// Writes the first line again before the first plan of another run, so that a reader of the log's end knows this agent.
    pub(super) fn greet(&mut self, run: Option<String>) {
        let is_known = self.greeted == run;
        if let (Some(greeting), Some(run)) = (&self.config.greeting, run)
            && !is_known
        {
            self.writer.write(&Event::Hello(Hello {
                run: Some(run.clone()),
                ..greeting.clone()
            }));
            self.greeted = Some(run);
        }
    }

    /// Checks the bounds of a standing agent; other agents serve one run, and have those of a plan alone.
    pub(super) fn check_standing_bounds(&self, plan: &Plan) -> Result<(), PlanError> {
        if self.standing.is_none() {
            return Ok(());
        }
        let is_of_this_run = (self.accepted.as_ref()).is_some_and(|(run, _)| *run == plan.run);
        let under_way: u64 = if is_of_this_run {
            self.plans.values().map(PlanProgress::rate).sum()
        } else {
            // Another run ends these plans.
            0
        };
        plan.check_standing_bounds(under_way)
    }

    /// Ends the run of a standing agent whose plan was taken away, or that has been silent for long.
    pub(super) async fn end_unattended_run(&mut self) {
        let is_silent = self.plans.is_empty() && self.accepted_at.elapsed() > MAX_SILENCE;
        let is_over = !self.config.plan.has_text() || is_silent;
        if self.standing.is_none() || self.log_reading == LogReading::Unattended || !is_over {
            return;
        }
        self.abandon().await;
        self.log_reading = LogReading::Unattended;
        let closed = ResponderPlan {
            ports: Vec::new(),
            accept: AcceptMode::Closed,
        };
        // Nothing is bound, so nothing can be refused.
        drop(self.responder.apply(&closed, 0).await);
        if let Some(packets) = &self.packets {
            // Nothing reads server traces any more.
            packets.send_now(PacketCommand::StartPlan(RawPlan {
                id: PlanId::Standing,
                probes: Vec::new(),
                ports: Some(Vec::new()),
                start: now(),
                pace: Pace::Even,
            }));
        }
    }
}
