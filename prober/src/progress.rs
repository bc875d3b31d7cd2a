//! A display of a run on a terminal: on standard error, gone when the run is over.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prober_core::run::{Phase, Run};

/// Whether progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Where standard error is a terminal.
    Usual,
    /// Never.
    Quiet,
}

/// What is shown while the number of probes is not known: a bar would look full.
const WITHOUT_BAR: &str = "{spinner} {msg}";

/// What is shown once probes can be counted.
const WITH_BAR: &str = "{spinner} {msg} {wide_bar} {pos}/{len}";

/// The display.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A display, shown on terminals only.
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        let is_shown = match verbosity {
            Verbosity::Usual => std::io::stderr().is_terminal(),
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

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
    }

    /// Shows what is being done.
    pub(crate) fn say(&self, what: &'static str) {
        self.0.set_message(what);
        self.0.tick();
    }

    /// Shows how far a run is.
    pub(crate) fn show(&self, run: &Run) {
        let (done, all) = run.progress();
        if all > 0 {
            if self.0.length().is_none() {
                self.style(WITH_BAR);
            }
            self.0.set_length(all.max(done));
            self.0.set_position(done);
        }
        self.say(words(run.phase()));
    }

    /// Takes the display away.
    pub(crate) fn clear(self) {
        self.0.finish_and_clear();
    }
}

const fn words(phase: Phase) -> &'static str {
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
