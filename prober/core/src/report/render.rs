//! A report in the forms that people and programs read: pure functions of the report alone.

/// One self-contained page.
pub mod html;
/// Names in natural order.
mod natural;
/// Packets in words.
mod packet;
/// For a terminal, a ticket or an incident channel.
pub mod text;
/// Durations in units that fit.
pub(crate) mod units;

use std::fmt;

use crate::report::Report;

/// Text of which each piece says what it means, so that a terminal can colour it.
///
/// Without colour nothing is lost: `Display` gives the plain text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    pieces: Vec<(Tone, String)>,
}

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tone {
    /// Nothing particular.
    Plain,
    /// A heading.
    Heading,
    /// It works.
    Good,
    /// It is broken.
    Bad,
    /// It deserves a look.
    Odd,
    /// Less important than what stands around it.
    Faint,
    /// To be pasted into a shell.
    Command,
}

impl Text {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// Every piece, in order.
    pub fn pieces(&self) -> impl Iterator<Item = (Tone, &str)> {
        self.pieces
            .iter()
            .map(|(tone, text)| (*tone, text.as_str()))
    }

    fn put(&mut self, tone: Tone, text: impl Into<String>) -> &mut Self {
        self.pieces.push((tone, text.into()));
        self
    }

    fn plain(&mut self, text: impl Into<String>) -> &mut Self {
        self.put(Tone::Plain, text)
    }

    /// Ends the line, without blanks at its end.
    fn end(&mut self) -> &mut Self {
        while let Some((_, last)) = self.pieces.last_mut() {
            last.truncate(last.trim_end_matches(' ').len());
            if !last.is_empty() {
                break;
            }
            self.pieces.pop();
        }
        self.put(Tone::Plain, "\n")
    }

    /// Paragraphs of `text` at most [`WIDTH`] wide: `first` before the first line, blanks as
    /// wide before the others. Words longer than a line are not cut.
    fn wrapped(&mut self, tone: Tone, first: &str, text: &str) -> &mut Self {
        let indent = first.chars().count();
        let mut line = String::new();
        let mut lead = first.to_owned();
        for word in text.split_whitespace() {
            let room = WIDTH.saturating_sub(indent);
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                self.plain(std::mem::take(&mut lead))
                    .put(tone, std::mem::take(&mut line));
                self.end();
                lead = " ".repeat(indent);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.plain(lead).put(tone, line).end()
    }
}

/// Columns that a terminal surely has.
const WIDTH: usize = 100;

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces
            .iter()
            .try_for_each(|(_, text)| f.write_str(text))
    }
}

/// The report as one JSON document, with a newline at its end.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}

/// A command line as a shell takes it.
fn shell(words: &[String]) -> String {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=/.,:@%+".contains(&byte);
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            if !word.is_empty() && word.bytes().all(is_safe) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests;
