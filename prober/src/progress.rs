//! The progress of a run on a terminal: a spinner and a bar on standard error, cleared at the end of the run.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prober_core::run::{Phase, Run};

/// When progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// If standard error is a terminal.
    Normal,
    /// Never.
    Quiet,
}

/// The template while the number of probes is unknown: a bar without a length would be drawn full.
const WITHOUT_BAR: &str = "{spinner} {msg}";

/// The template once the number of probes is known.
const WITH_BAR: &str = "{spinner} {msg} {wide_bar} {pos}/{len}";

/// The progress display.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Creates a display, which is hidden unless standard error is a terminal.
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        let is_shown = match verbosity {
            Verbosity::Normal => std::io::stderr().is_terminal(),
            Verbosity::Quiet => false,
        };
        let target = if is_shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let progress = Self(bar);
        progress.style(WITHOUT_BAR);
        progress
    }

    /// Sets the template; an invalid one has no effect.
    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
    }

    /// Shows the step that is in progress.
    pub(crate) fn set_message(&self, message: &'static str) {
        self.0.set_message(message);
        self.0.tick();
    }

    /// Shows the phase of a run, and how many of its probes have an outcome.
    pub(crate) fn show(&self, run: &Run) {
        let (done, all) = run.progress();
        if all > 0 {
            if self.0.length().is_none() {
                self.style(WITH_BAR);
            }
            self.0.set_length(all.max(done));
            self.0.set_position(done);
        }
        self.set_message(message(run.phase()));
    }

    /// Clears the display.
    pub(crate) fn clear(self) {
        self.0.finish_and_clear();
    }
}

/// Returns the message of a phase.
const fn message(phase: Phase) -> &'static str {
    match phase {
        Phase::ReadingFacts => "reading the nodes' facts",
        Phase::Placing => "starting agents",
        Phase::Publishing => "publishing the test Services",
        Phase::Probing | Phase::Unattended => "probing",
        Phase::FollowUp => "probing failing paths again",
        Phase::Lingering => "collecting results",
        Phase::Idle => "waiting for the next cycle",
        Phase::Removing => "removing everything",
        Phase::Ended => "done",
    }
}
