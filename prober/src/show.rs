//! Output on standard output and standard error, in colour on a terminal only.
//!
//! A reader that closes the pipe early causes no error.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use prober_core::printable::printable;
use prober_core::report::render::{Text, Tone};
use serde::Serialize;

use crate::usage::UsageError;
use crate::values::ListFormat;

/// Writes a list or another small result to standard output: `lines` as text, or `document` as JSON or YAML.
pub(crate) fn list<T: Serialize>(
    format: ListFormat,
    lines: impl FnOnce() -> String,
    document: impl FnOnce() -> T,
) -> anyhow::Result<()> {
    match format {
        ListFormat::Text => text(&printable(&lines())),
        ListFormat::Json => text(&(serde_json::to_string_pretty(&document())? + "\n")),
        ListFormat::Yaml => text(&serde_saphyr::to_string(&document())?),
    }
}

/// Writes text to standard output, each piece in the style of its tone.
pub(crate) fn styled(text: &Text) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let written = text.pieces().try_for_each(|(tone, piece)| {
        let style = style(tone);
        write!(out, "{style}{piece}{style:#}")
    });
    ignore_broken_pipe(written.and_then(|()| out.flush()))
}

/// Returns the terminal style of a tone.
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

/// Writes plain text to standard output.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    bytes(text.as_bytes())
}

/// Writes bytes to standard output.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    ignore_broken_pipe(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Ignores the error of a reader that has closed the pipe, and adds a context to every other error.
fn ignore_broken_pipe(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes an error to standard error, and a hint at `--help` after a usage error, in the format of clap's errors.
pub(crate) fn error(error: &anyhow::Error) {
    let bad = style(Tone::Bad);
    let mut out = anstream::stderr();
    drop(writeln!(
        out,
        "{bad}error:{bad:#} {}",
        printable(&sentence(error))
    ));
    if error.is::<UsageError>() {
        drop(writeln!(out, "\nFor more information, try '--help'."));
    }
}

/// Joins an error and its causes with colons; a cause whose text an outer error already contains is left out.
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

/// Writes a warning to standard error: an error that does not affect the report.
pub(crate) fn warning(text: &str) {
    let odd = style(Tone::Odd);
    let text = printable(text);
    drop(writeln!(anstream::stderr(), "{odd}warning:{odd:#} {text}"));
}

/// Writes a note to standard error.
pub(crate) fn note(text: &str) {
    drop(writeln!(anstream::stderr(), "note: {}", printable(text)));
}

/// Writes a message of clap: help and version to standard output, errors to standard error.
pub(crate) fn usage(error: &clap::Error) -> anyhow::Result<()> {
    ignore_broken_pipe(error.print())
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
