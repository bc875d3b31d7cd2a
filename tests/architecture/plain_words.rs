//! Plain words: a thing is "it", and names are those of Kubernetes, the RFCs and the field, never metaphors.
//!
//! Prose is every word of a file: comments, strings, Markdown. Names are its identifiers, split at underscores and humps.

use std::collections::BTreeSet;
use std::path::Path;

use super::source::Source;

/// Words that neither prose nor names use, and the words to use instead.
const BANNED: &[(&[&str], &str)] = &[
    (
        &["who", "whoever", "whom"],
        "that, which, or the name of the thing",
    ),
    (
        &["nobody", "somebody", "everybody", "anybody"],
        "no agent, an agent, every node: the name of the thing",
    ),
    (
        &["tell", "tells", "told", "telling", "teller", "tellers"],
        "report, send, say, distinguish",
    ),
    (
        &["rings", "rang", "ringing", "bell", "bells", "doorbell"],
        "alert",
    ),
    (&["hush", "hushed"], "pause"),
    (&["ear", "ears"], "log reader"),
    (&["keeper", "keepers"], "owner, or the name of the task"),
    (&["patrol", "patrols"], "worker"),
    (&["desk", "desks"], "loop, server"),
    (
        &[
            "seat", "seats", "seated", "sitting", "sittings", "guest", "guests",
        ],
        "assign, slot, node",
    ),
    (&["bench", "benches"], "batch"),
    (&["mend", "mends", "mended", "mending"], "recover, heal"),
    (
        &["stranger", "strangers", "impostor", "impostors"],
        "other host, wrong backend",
    ),
    (&["mute", "mutes", "muted"], "suppress, no data"),
    (&["beats", "pulse", "pulses"], "wakeups, timer, health"),
    (
        &[
            "errand", "errands", "rung", "rungs", "climb", "climbs", "climbed",
        ],
        "job, step, TTL probe",
    ),
];

/// Words that names do not use; in prose they may be right.
const BANNED_NAMES: &[(&[&str], &str)] = &[
    (
        &["ask", "asks", "asked", "asker", "askers"],
        "request, probe",
    ),
    (&["look", "looks", "looked"], "round, result, check"),
    (&["stand", "stands"], "state, agent set, idle"),
    (
        &["witness", "witnesses", "witnessed"],
        "server trace, observer",
    ),
    (&["fleet", "fleets"], "platform"),
    (&["campaign"], "leader election"),
    (&["judgement", "blame"], "health, explanation"),
    (&["opinion"], "hypothesis"),
];

/// A word before which "who" means a person.
const PEOPLE: &[&str] = &[
    "anyone",
    "developer",
    "engineer",
    "engineers",
    "operator",
    "operators",
    "people",
    "person",
    "reader",
    "readers",
    "user",
    "users",
    "maintainer",
    "maintainers",
    "those",
    "newcomer",
];

/// A word that, after "who", makes it a person.
const DONE_BY_PEOPLE: &[&str] = &[
    "knows",
    "maintains",
    "operates",
    "reads",
    "runs",
    "types",
    "uses",
    "writes",
];

/// The reason of exceptions for the text form of ARP requests.
const WHO_HAS: &str = "tcpdump's form of an ARP request: who-has ... tell";

/// Exceptions: the file or folder, the word, and why it is right there.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "tests/architecture/plain_words.rs",
        "",
        "it lists the words",
    ),
    ("CHANGELOG.md", "", "it names what was renamed"),
    ("prober/core/src/packet/", "who", WHO_HAS),
    ("prober/core/src/packet/", "tell", WHO_HAS),
    ("prober/core/src/replay/tests", "who", WHO_HAS),
    ("prober/core/src/replay/tests", "tell", WHO_HAS),
    ("prober/core/src/report/render/packet.rs", "who", WHO_HAS),
    (
        "prober/net/src/drop_capabilities.rs",
        "nobody",
        "the user of that name",
    ),
    ("tests/architecture/source.rs", "benches", "a folder's name"),
    ("tests/cluster/canary/rights.rs", "bench", "an image's name"),
    ("tests/cluster/canary/scale.rs", "bench", "a label's name"),
    ("tests/bench/", "bench", "it is a benchmark"),
    ("CONTRIBUTING.md", "bench", "a make target's name"),
    ("README.md", "bench", "a make target's name"),
];

/// Every word of `sources` that is not plain, one line each.
pub(crate) fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        found.extend(prose(source));
        found.extend(names(source));
    }
    found
}

/// Banned words in the lines of a file.
fn prose(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let words = words(line);
        for (place, word) in words.iter().enumerate() {
            let Some(instead) = instead(BANNED, word) else {
                continue;
            };
            if is_person(&words, place) || is_exception(&source.path, word) {
                continue;
            }
            found.push(format!(
                "{}:{number}: '{word}': write {instead}",
                source.path
            ));
        }
    }
    found
}

/// Banned words in the identifiers of a Rust file.
fn names(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if Path::new(&source.path)
        .extension()
        .is_none_or(|end| end != "rs")
    {
        return found;
    }
    match source.all_tokens() {
        Err(error) => {
            found.insert(error);
        }
        Ok(tokens) => {
            for token in tokens {
                let is_name = token
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
                let words = words(&token);
                for (place, word) in words.iter().enumerate().filter(|_| is_name) {
                    let is_look_up =
                        word == "look" && words.get(place + 1).is_some_and(|next| next == "up");
                    if let Some(instead) = instead(BANNED_NAMES, word)
                        && !is_look_up
                        && !is_exception(&source.path, word)
                    {
                        found.insert(format!(
                            "{}: the name {token}: write {instead}",
                            source.path
                        ));
                    }
                }
            }
        }
    }
    found
}

/// The words of a text in lower case; names are split at underscores and humps.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in text.chars() {
        let begins = letter.is_uppercase() && before.is_lowercase();
        if (begins || !letter.is_alphabetic()) && words.last().is_some_and(|word| !word.is_empty())
        {
            words.push(String::new());
        }
        if letter.is_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words
}

fn instead(list: &[(&[&str], &'static str)], word: &str) -> Option<&'static str> {
    let (_, instead) = list.iter().find(|(words, _)| words.contains(&word))?;
    Some(instead)
}

fn is_person(words: &[String], place: usize) -> bool {
    if words[place] != "who" {
        return false;
    }
    let before = place.checked_sub(1).and_then(|before| words.get(before));
    let is_any = |word: Option<&String>, known: &[&str]| {
        word.is_some_and(|word| known.contains(&word.as_str()))
    };
    is_any(before, PEOPLE) || is_any(words.get(place + 1), DONE_BY_PEOPLE)
}

fn is_exception(path: &str, word: &str) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(folder, known, _)| path.starts_with(folder) && (known.is_empty() || *known == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        violations(&[Source::new("deploy/a.rs", text)])
    }

    #[test]
    fn a_banned_word_is_found_in_comments_strings_and_names() {
        for text in [
            "//! Nobody is told.",
            "//! A.\nconst A: &str = \"who asks\";",
            "//! A.\nfn ring_rang() {}",
        ] {
            assert!(!found(text).is_empty(), "{text}");
        }
        assert_eq!(found("//! A.\nstruct TellerDesk;").len(), 2);
    }

    #[test]
    fn a_word_that_is_banned_only_in_names_may_be_prose() {
        assert_eq!(found("//! Where to look.").len(), 0);
        assert_eq!(found("//! A.\nfn look_again() {}").len(), 1);
    }

    #[test]
    fn people_may_be_who() {
        assert_eq!(
            found("//! For operators who read this, and who runs it.").len(),
            0
        );
        assert_eq!(found("//! The agent who answers.").len(), 1);
    }

    #[test]
    fn every_exception_has_a_reason() {
        assert!(EXCEPTIONS.iter().all(|(_, _, reason)| !reason.is_empty()));
    }
}
