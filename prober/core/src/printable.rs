//! The words of agents, pods and the API server, made harmless before a terminal, a page or a log shows them.
//!
//! A control character can move a terminal's cursor, change its title or hide text, and a bidirectional control character
//! reorders what people read (<https://unicode.org/reports/tr36/#Bidirectional_Text_Spoofing>). Both become the text of
//! their escape sequence. Documents for programs keep them: JSON and YAML escape what they must.

use std::borrow::Cow;

/// Replaces control characters, except line ends and tabs, and characters that change the direction of text, by their escape
/// sequences, such as `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unprintable(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Whether a character is a control character (ASCII, DEL, C1), a separator of lines or paragraphs that terminals do not treat
/// as a line end, or one that changes the direction of text (Unicode UAX 9, 2: `Bidi_Control`).
fn is_unprintable(character: char) -> bool {
    let is_layout = matches!(character, '\n' | '\t');
    let is_format = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    is_format || (character.is_control() && !is_layout)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_that_a_terminal_acts_upon_is_left(text: String) {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(is_unprintable));
            let again = printable(&shown);
            prop_assert_eq!(&again, &shown);
            let lines = |text: &str| text.matches('\n').count();
            prop_assert_eq!(lines(&shown), lines(&text));
        }

        #[test]
        fn plain_words_stay_as_they_are(text in "[ -~äß世\n\t✓]{0,40}") {
            prop_assert!(matches!(printable(&text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn escape_sequences_and_reordered_text_are_shown_as_what_they_are() {
        assert_eq!(
            printable("\u{1b}]0;owned\u{7}\r ok \u{202e}dab\u{9b}31m"),
            r"\u{1b}]0;owned\u{7}\u{d} ok \u{202e}dab\u{9b}31m"
        );
    }
}
