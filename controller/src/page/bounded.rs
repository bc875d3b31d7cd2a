//! Texts from the cluster, made safe to show: of bounded length, and without characters that change how others are shown.

/// The most characters of a name: those of a DNS subdomain.
pub(super) const NAME: usize = 253;

/// The most characters of a sentence.
pub(super) const SENTENCE: usize = 300;

/// The most characters of a name in a cell.
pub(super) const CELL: usize = 40;

/// `text` in at most `most` characters, with an ellipsis in the middle if it is longer. Control characters, and those that
/// change the direction of text, become `\u{FFFD}`.
pub(super) fn bounded(text: &str, most: usize) -> String {
    let is_hidden = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
    };
    let safe = |letter: char| {
        if is_hidden(letter) {
            '\u{FFFD}'
        } else {
            letter
        }
    };
    let length = text.chars().count();
    if length <= most {
        return text.chars().map(safe).collect();
    }
    let head = most / 2;
    let tail = most - head - 1;
    let first = text.chars().take(head);
    let last = text.chars().skip(length - tail);
    first.chain(['…']).chain(last).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_both_ends() {
        assert_eq!(bounded("node-1", NAME), "node-1");
        assert_eq!(bounded("abcdefghij", 5), "ab…ij");
        assert_eq!(bounded(&"x".repeat(1_000), CELL).chars().count(), CELL);
    }

    #[test]
    fn characters_that_hide_others_are_shown() {
        assert_eq!(
            bounded("a\u{202E}b\n\u{1b}c", NAME),
            "a\u{FFFD}b\u{FFFD}\u{FFFD}c"
        );
    }
}
