//! The width of the terminal, and text that fits it.

use std::io;

/// Columns where no terminal says how many it has, and the most that prose is given.
const USUAL: usize = 100;

/// Columns below which wrapping makes text harder to read than the terminal's own line breaks.
const NARROWEST: usize = 40;

/// Columns of standard output: the terminal's, or $COLUMNS where that is no terminal.
pub(crate) fn columns() -> usize {
    let columns = terminal_size::terminal_size_of(io::stdout())
        .map(|(terminal_size::Width(columns), _)| usize::from(columns))
        .or_else(|| std::env::var("COLUMNS").ok()?.parse().ok());
    columns.map_or(USUAL, |columns| columns.max(NARROWEST))
}

/// Columns for prose, which is hard to read in longer lines.
pub(crate) fn width() -> usize {
    columns().min(USUAL)
}

/// Text in lines of at most `width` columns: the first begins with `lead`, the others with as many spaces.
///
/// A word that is longer than a line has a line of its own.
pub(crate) fn wrap(lead: &str, text: &str, width: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let indent = " ".repeat(lead.chars().count());
    let options = textwrap::Options::new(width)
        .initial_indent(lead)
        .subsequent_indent(&indent)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(&words.join(" "), options) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_at_most_so_wide_and_hang_below_the_lead() {
        let wrapped = wrap(
            "fault  ",
            "drops every packet of a-word-that-is-too-long",
            20,
        );
        assert_eq!(
            wrapped,
            "fault  drops every\n       packet of\n       a-word-that-is-too-long\n"
        );
    }
}
