//! What the engines report: results are counted and written, and close the readiness gate where nothing reads them.

use prober_core::plan::LogReading;
use prober_core::probe::event::Event;

use super::MainTask;
use crate::engine::events::{EngineEvent, PlanId, ProbeEvent};
use crate::event_lines::tally::is_healthy;

impl MainTask {
    pub(super) fn handle_engine_event(&mut self, event: EngineEvent) -> anyhow::Result<()> {
        match event {
            EngineEvent::Probe(PlanId::Accepted(number), event) => {
                self.handle_probe_event(number, event);
            }
            // The standing rounds receive these.
            EngineEvent::Probe(PlanId::Standing, _) => {}
            EngineEvent::Line(event) => self.writer.write(&event),
            EngineEvent::NodeFacts(number, read) => {
                self.report_facts(read);
                if let Some(progress) = self.plans.get_mut(&number) {
                    progress.end_without_result(1);
                }
            }
            EngineEvent::ServerTrace(handshakes) => match self.log_reading {
                LogReading::Attended => self.writer.write(&Event::ServerTrace { handshakes }),
                LogReading::Unattended => {}
            },
            EngineEvent::Capture { received, dropped } => {
                self.capture = Some(Event::Capture { received, dropped });
            }
            // Nothing reads the log of a standing agent without a run.
            EngineEvent::Late(_) if self.standing.is_some() && self.plans.is_empty() => {}
            EngineEvent::Late(late) => self.max_lateness = self.max_lateness.max(late),
            EngineEvent::Notice(text) => self.notice(text),
            EngineEvent::PacketThreadFailed(why) => {
                anyhow::bail!("the packet thread has ended: {why}")
            }
        }
        Ok(())
    }

    fn handle_probe_event(&mut self, number: u32, event: ProbeEvent) {
        // An event of a run that is over.
        let Some(progress) = self.plans.get_mut(&number) else {
            return;
        };
        match event {
            ProbeEvent::Result(result) => {
                let needs_alert =
                    self.log_reading == LogReading::Unattended && !is_healthy(&result);
                if let Some(line) = progress.handle_result(*result) {
                    self.writer.write(&line);
                }
                if needs_alert {
                    self.alert();
                }
            }
            ProbeEvent::TtlProbe(ttl_probe) => {
                progress.end_without_result(1);
                self.writer.write(&Event::TtlProbe(ttl_probe));
            }
            ProbeEvent::Unsent(probes, why) => {
                progress.end_without_result(probes);
                self.notice(why);
            }
        }
    }
}
