//! What is written to the terminal, or to whoever reads: colour for terminals only, and a reader
//! that goes away is no error.

use std::io::{self, Write};
use std::path::Path;

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use prober_core::report::Report;
use prober_core::report::render::{self, Text, Tone, html, json};

use crate::values::Form;

/// A whole report on standard output.
pub(crate) fn report(report: &Report, form: Form) -> anyhow::Result<()> {
    match form {
        Form::Text => toned(&render::text::report(
            report,
            render::text::Options::default(),
        )),
        Form::Json => text(&json(report).context("write the report as JSON")?),
        Form::Html => text(&html::report(report)),
    }
}

/// Text whose pieces have tones.
fn toned(text: &Text) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let written = text.pieces().try_for_each(|(tone, piece)| {
        let style = style(tone);
        write!(out, "{style}{piece}{style:#}")
    });
    tolerate(written.and_then(|()| out.flush()))
}

const fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Heading => Style::new().bold(),
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Bad => AnsiColor::Red.on_default().bold(),
        Tone::Odd => AnsiColor::Yellow.on_default(),
        Tone::Faint => Style::new().dimmed(),
        Tone::Command => AnsiColor::Cyan.on_default(),
    }
}

/// Plain text on standard output.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    bytes(text.as_bytes())
}

/// Bytes on standard output.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    tolerate(out.write_all(bytes).and_then(|()| out.flush()))
}

/// A reader that has seen enough and went away is no error.
fn tolerate(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Bytes into a file, or to standard output where its name is `-`.
pub(crate) fn file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return self::bytes(bytes);
    }
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

/// An error and where to look on.
pub(crate) fn failure(error: &anyhow::Error) {
    let bad = style(Tone::Bad);
    let mut out = anstream::stderr();
    drop(writeln!(out, "{bad}prober:{bad:#} {error:#}"));
    drop(writeln!(
        out,
        "hint: nothing was judged (exit status 2); `prober --help` has examples"
    ));
}

/// A word beside the report, on standard error.
pub(crate) fn aside(word: &str) {
    drop(writeln!(anstream::stderr(), "prober: {word}"));
}

/// What clap has to say: help on standard output, errors on standard error.
pub(crate) fn usage(error: &clap::Error) -> anyhow::Result<()> {
    tolerate(error.print())
}
