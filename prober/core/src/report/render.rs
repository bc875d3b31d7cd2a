//! The forms of a report: text, JSON, HTML and JUnit XML, each a pure function of the report.

/// A report as a self-contained HTML page.
pub mod html;
/// A report as JUnit XML, for CI pipelines.
mod junit;
/// Packets as words, for the text and the HTML form.
mod packet;
/// A report as text, for a terminal, a ticket or an incident channel.
pub mod text;

pub use junit::junit;

use std::fmt;

use textwrap::{WordSeparator, WordSplitter, WrapAlgorithm};

use crate::printable::printable;
use crate::report::Report;

/// Text in pieces, each with a [`Tone`] from which a terminal takes its colour.
///
/// Colour adds no information: [`Display`](fmt::Display) gives the plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pieces: Vec<(Tone, String)>,
    /// The width of paragraphs, in columns.
    width: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self::new()
    }
}

/// The meaning of a piece of text, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tone {
    /// Ordinary text.
    Plain,
    /// A heading.
    Heading,
    /// Something that works.
    Good,
    /// Something that fails.
    Bad,
    /// Something that deserves attention.
    Odd,
    /// Less important than the text around it.
    Faint,
    /// A command to paste into a shell.
    Command,
}

impl Text {
    /// An empty text whose paragraphs are at most 100 columns wide.
    pub const fn new() -> Self {
        Self::of_width(WIDTH)
    }

    /// An empty text whose paragraphs are at most `width` columns wide.
    pub const fn of_width(width: usize) -> Self {
        Self {
            pieces: Vec::new(),
            width,
        }
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = (Tone, &str)> {
        self.pieces
            .iter()
            .map(|(tone, text)| (*tone, text.as_str()))
    }

    /// Adds a piece, made [`printable`]: names and reasons in it are the words of agents, pods and the API server.
    fn put(&mut self, tone: Tone, text: impl Into<String>) -> &mut Self {
        self.pieces
            .push((tone, printable(&text.into()).into_owned()));
        self
    }

    fn plain(&mut self, text: impl Into<String>) -> &mut Self {
        self.put(Tone::Plain, text)
    }

    /// Ends the line and removes trailing spaces.
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

    /// Adds a paragraph, wrapped to the width of this text: `first` starts the first line, and as many spaces the
    /// others. Words longer than a line are not broken.
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

/// The width of a text that is not written to a terminal, in columns.
const WIDTH: usize = 100;

/// The least width of a paragraph, in columns, however narrow the terminal.
const NARROWEST: usize = 20;

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces
            .iter()
            .try_for_each(|(_, text)| f.write_str(text))
    }
}

/// The report as one JSON document that ends with a newline.
///
/// # Errors
///
/// The error of the serializer, for a value that JSON cannot express.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}

/// A command line, quoted for a POSIX shell.
pub fn shell(words: &[String]) -> String {
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
