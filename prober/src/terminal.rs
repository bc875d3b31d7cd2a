//! The width of the terminal, and text wrapped to it.

use std::io;

/// The columns of an output whose width is unknown, and the most columns of prose.
const DEFAULT_COLUMNS: usize = 100;

/// The fewest columns that text is wrapped to: below, the terminal's own line breaks are easier to read.
const MIN_COLUMNS: usize = 40;

/// Returns the columns of standard output: those of the terminal, else `$COLUMNS`, else [`DEFAULT_COLUMNS`].
pub(crate) fn columns() -> usize {
    let columns = terminal_size::terminal_size_of(io::stdout())
        .map(|(terminal_size::Width(columns), _)| usize::from(columns))
        .or_else(|| std::env::var("COLUMNS").ok()?.parse().ok());
    columns.map_or(DEFAULT_COLUMNS, |columns| columns.max(MIN_COLUMNS))
}

/// Returns the columns for prose: at most [`DEFAULT_COLUMNS`], because longer lines are hard to read.
pub(crate) fn width() -> usize {
    columns().min(DEFAULT_COLUMNS)
}

/// Wraps text to lines of at most `width` columns: the first begins with `lead`, the others with as many spaces.
///
/// A word that is longer than a line is not broken and has a line of its own. The result ends with a line end.
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
