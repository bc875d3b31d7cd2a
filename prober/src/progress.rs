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

/// The template for a file, of which the part that is read is known.
const OF_FILE: &str = "{spinner} {msg} {wide_bar} {percent} %";

/// The template for a stream, whose end is not known.
const OF_STREAM: &str = "{spinner} {msg}: {binary_bytes}";

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
        Self::on(target)
    }

    /// Creates a display on this target.
    fn on(target: ProgressDrawTarget) -> Self {
        let progress = Self(ProgressBar::with_draw_target(None, target));
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

    /// Shows that an input of this name and size in bytes is read; `None` where its size is not known.
    pub(crate) fn start_reading(&self, name: &str, size: Option<u64>) {
        if let Some(size) = size.filter(|size| *size > 0) {
            self.style(OF_FILE);
            self.0.set_length(size);
        } else {
            self.style(OF_STREAM);
            self.0.unset_length();
        }
        self.0.set_message(format!("reading {name}"));
        self.set_read(0);
    }

    /// Shows how many bytes of the input are read.
    pub(crate) fn set_read(&self, bytes: u64) {
        self.0.set_position(bytes);
        self.0.tick();
    }

    /// Shows a step whose end is not known.
    pub(crate) fn start_step(&self, message: &'static str) {
        self.style(WITHOUT_BAR);
        self.set_message(message);
    }

    /// Shows the phase of a run, and how many of its probes have an outcome.
    pub(crate) fn show(&self, run: &Run) {
        self.draw(run.phase(), run.progress());
    }

    /// Shows a phase and, once the number of `all` probes is known, how many are `done`.
    fn draw(&self, phase: Phase, (done, all): (u64, u64)) {
        if all > 0 {
            if self.0.length().is_none() {
                self.style(WITH_BAR);
            }
            self.0.set_length(all.max(done));
            self.0.set_position(done);
        }
        self.set_message(message(phase));
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// A terminal that keeps what is written to it since its line was last cleared.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl Terminal {
        fn shown(&self) -> String {
            self.0.lock().unwrap().clone()
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _lines: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _lines: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _columns: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _columns: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_shows_the_phase_and_the_probes_and_is_cleared_at_the_end() {
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let progress = Progress::on(target);
        progress.draw(Phase::Placing, (0, 0));
        let shown = terminal.shown();
        assert!(shown.contains("starting agents"), "{shown}");
        assert!(!shown.contains("0/0"), "{shown}");
        progress.draw(Phase::Probing, (30, 120));
        let shown = terminal.shown();
        assert!(shown.contains("probing"), "{shown}");
        assert!(shown.contains("30/120"), "{shown}");
        progress.clear();
        assert_eq!(terminal.shown().trim(), "");
    }

    #[test]
    fn a_file_is_shown_in_percent_and_a_stream_in_bytes() {
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let progress = Progress::on(target);
        progress.start_reading("node.pcap", Some(4_000));
        progress.set_read(1_000);
        let shown = terminal.shown();
        assert!(shown.contains("reading node.pcap"), "{shown}");
        assert!(shown.contains("25 %"), "{shown}");
        progress.start_reading("standard input", None);
        progress.set_read(3 * 1024 * 1024);
        let shown = terminal.shown();
        assert!(
            shown.contains("reading standard input: 3.00 MiB"),
            "{shown}"
        );
        progress.start_step("judging the connections");
        let shown = terminal.shown();
        assert!(shown.contains("judging the connections"), "{shown}");
        assert!(!shown.contains("MiB"), "{shown}");
    }

    #[test]
    fn phases_have_different_messages() {
        let phases = [
            Phase::ReadingFacts,
            Phase::Placing,
            Phase::Publishing,
            Phase::Probing,
            Phase::FollowUp,
            Phase::Lingering,
            Phase::Idle,
            Phase::Removing,
            Phase::Ended,
        ];
        let messages: std::collections::BTreeSet<_> = phases.map(message).into();
        assert_eq!(messages.len(), phases.len());
    }
}
