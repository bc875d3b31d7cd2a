//! What is written to standard output and standard error: coloured on terminals only; a reader that goes away is no
//! error.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use prober_core::report::Report;
use prober_core::report::render::text::Options;
use prober_core::report::render::{self, Text, Tone};
use serde::Serialize;

use crate::usage::UsageError;
use crate::values::{Form, ListForm};
use crate::{output, terminal};

/// A whole report on standard output.
pub(crate) fn report(report: &Report, form: Form) -> anyhow::Result<()> {
    match form {
        Form::Text | Form::Wide => toned(&render::text::report(
            report,
            Options {
                width: terminal::columns(),
                wide: form == Form::Wide,
            },
        )),
        Form::Json | Form::Yaml | Form::Html | Form::Pcapng | Form::Junit => {
            bytes(&output::bytes(report, form)?)
        }
    }
}

/// A list or another small thing, as text or as a document.
pub(crate) fn listed<T: Serialize>(
    form: ListForm,
    lines: impl FnOnce() -> String,
    document: impl FnOnce() -> T,
) -> anyhow::Result<()> {
    match form {
        ListForm::Text => text(&lines()),
        ListForm::Json => text(&(serde_json::to_string_pretty(&document())? + "\n")),
        ListForm::Yaml => text(&serde_saphyr::to_string(&document())?),
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

/// An error, and after an error of usage where help is: in clap's words, so that all errors look alike.
pub(crate) fn failure(error: &anyhow::Error) {
    let bad = style(Tone::Bad);
    let mut out = anstream::stderr();
    drop(writeln!(out, "{bad}error:{bad:#} {}", sentence(error)));
    if error.is::<UsageError>() {
        drop(writeln!(out, "\nFor more information, try '--help'."));
    }
}

/// An error and its causes, each once: many say themselves what caused them.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        if said.contains(&cause) {
            said
        } else if said.is_empty() {
            cause
        } else {
            format!("{said}: {cause}")
        }
    })
}

/// What went wrong beside the report, on standard error.
pub(crate) fn warning(word: &str) {
    let odd = style(Tone::Odd);
    drop(writeln!(anstream::stderr(), "{odd}warning:{odd:#} {word}"));
}

/// What else there is to know, on standard error.
pub(crate) fn note(word: &str) {
    drop(writeln!(anstream::stderr(), "note: {word}"));
}

/// What clap has to say: help on standard output, errors on standard error.
pub(crate) fn usage(error: &clap::Error) -> anyhow::Result<()> {
    tolerate(error.print())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cause_is_said_twice() {
        let inner = io::Error::other("no space left");
        let error = anyhow::Error::from(inner)
            .context("cannot write a.json: no space left")
            .context("cannot save");
        assert_eq!(
            sentence(&error),
            "cannot save: cannot write a.json: no space left"
        );
    }
}
