//! A report in the forms that people and programs read: pure functions of the report alone.

/// One self-contained page.
pub mod html;
/// For pipelines.
mod junit;
/// Packets in words.
mod packet;
/// For a terminal, a ticket or an incident channel.
pub mod text;

pub use junit::junit;

use std::fmt;

use textwrap::{WordSeparator, WordSplitter, WrapAlgorithm};

use crate::report::Report;

/// Text of which each piece says what it means, so that a terminal can colour it.
///
/// Without colour nothing is lost: `Display` gives the plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pieces: Vec<(Tone, String)>,
    /// Columns that a paragraph may take.
    width: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self::new()
    }
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
        Self::of_width(WIDTH)
    }

    /// Nothing yet, whose paragraphs are at most `width` columns wide.
    pub const fn of_width(width: usize) -> Self {
        Self {
            pieces: Vec::new(),
            width,
        }
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

    /// A paragraph as wide as this text: `first` before the first line, blanks as wide before the
    /// others. Words longer than a line are not cut.
    fn wrapped(&mut self, tone: Tone, first: &str, text: &str) -> &mut Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let indent = first.chars().count();
        let room = self.width.saturating_sub(indent).max(NARROWEST);
        let options = textwrap::Options::new(room)
            .break_words(false)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit);
        let mut lead = first.to_owned();
        for line in textwrap::wrap(&words.join(" "), options) {
            self.plain(lead).put(tone, line).end();
            lead = " ".repeat(indent);
        }
        self
    }
}

/// Columns of a text that no terminal shows.
const WIDTH: usize = 100;

/// Columns that a paragraph has at least, however narrow the terminal.
const NARROWEST: usize = 20;

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
