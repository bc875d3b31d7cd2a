//! Which module of the core may import which, and which alone knows a foreign crate.

use std::collections::BTreeSet;

use super::source::Source;

/// The small words that every room may use. A word may use the words before it.
const WORDS: &[&str] = &["time", "random"];

/// A room of prober-core (a top-level module), and the rooms that its product code may import beside the words. What no
/// row allows, nothing imports: `replay`, `render` and `sim` are leaves.
pub(crate) const ROOMS: &str = "
packet:
topology: packet
plan: packet topology
node_facts: packet topology
probe: packet topology plan node_facts
evidence: packet topology plan node_facts probe
diagnosis: packet topology node_facts probe evidence
report: packet topology node_facts probe evidence diagnosis
run: packet topology plan node_facts probe evidence diagnosis report
replay: packet topology probe evidence
simulation: packet topology node_facts plan probe
";

/// A foreign crate and the one room that knows it.
const KEEPERS: &[(&str, &str)] = &[("pnet_packet", "packet"), ("pcap_file", "packet")];

/// Every import in the core's `files` that the table `rooms` does not allow, one line each.
pub(crate) fn violations(files: &[Source], rooms: &str) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        let path = &file.path;
        let module = file.module();
        let Some(&room) = module.first() else {
            continue;
        };
        let tokens = match file.tokens() {
            Ok(tokens) => tokens,
            Err(error) => {
                found.push(error);
                continue;
            }
        };
        for (foreign, keeper) in KEEPERS {
            if room != *keeper && tokens.iter().any(|token| token == foreign) {
                found.push(format!("{path}: only {keeper} names {foreign}"));
            }
        }
        let Some(allowed) = allowed(room, rooms) else {
            found.push(format!(
                "{path}: give the module {room} a row in tests/architecture/rooms.rs"
            ));
            continue;
        };
        let imports: BTreeSet<String> = imports(&tokens, module.len()).into_iter().collect();
        for import in imports
            .iter()
            .filter(|import| *import != room && !allowed.contains(&import.as_str()))
        {
            found.push(format!("{path}: {room} may not import {import}"));
        }
    }
    found
}

/// What `room` may import, or `None` if it is neither a word nor in the table.
fn allowed<'a>(room: &str, rooms: &'a str) -> Option<Vec<&'a str>> {
    if let Some(place) = WORDS.iter().position(|word| *word == room) {
        return Some(WORDS[..place].to_vec());
    }
    let (_, row) = rooms
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == room)?;
    Some(
        WORDS
            .iter()
            .copied()
            .chain(row.split_whitespace())
            .collect(),
    )
}

/// The top-level names that `tokens` reach through `crate::`, or through `super::` from `depth` modules below the root.
fn imports(tokens: &[String], depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let start = at;
        at += 1;
        if tokens[start] == "crate" {
            if tokens.get(start + 1).is_some_and(|token| token == ":") {
                heads(tokens, start + 3, &mut found);
            }
        } else if tokens[start] == "super" {
            let mut climbed = 1;
            let mut next = start + 3;
            while tokens.get(next).is_some_and(|token| token == "super") {
                climbed += 1;
                next += 3;
            }
            if climbed >= depth {
                heads(tokens, next, &mut found);
            }
            at = next;
        }
    }
    found
}

/// The first names of the path, or of every path in the braces, that begins at `at`.
fn heads(tokens: &[String], at: usize, found: &mut Vec<String>) {
    match tokens.get(at).map(String::as_str) {
        Some("{") => {
            let mut open = 0_usize;
            for pair in tokens[at..].windows(2) {
                let head = match pair[0].as_str() {
                    "{" => {
                        open += 1;
                        open == 1
                    }
                    "}" => {
                        open -= 1;
                        false
                    }
                    "," => open == 1,
                    _ => false,
                };
                if open == 0 {
                    break;
                }
                if head && pair[1] != "}" {
                    found.push(pair[1].clone());
                }
            }
        }
        Some(name) => found.push(name.to_owned()),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "wire:\nobservation: wire\npacket:\n";

    fn found(path: &str, text: &str) -> Vec<String> {
        violations(&[Source::new(path, text)], SMALL)
    }

    #[test]
    fn a_room_may_import_what_its_row_allows_and_itself() {
        let text = "//! O.\nuse crate::time::Timestamp;\nuse crate::{observation::Outcome, wire::{Packet, tcp}};\n";
        assert_eq!(
            found("prober/core/src/observation.rs", text),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_import_that_no_row_allows_is_found_however_it_is_written() {
        for text in [
            "use crate::observation::Outcome;",
            "use crate::{wire::Packet, observation::Outcome};",
            "use crate::{wire::{Packet, tcp}, observation};",
            "use super::observation::Outcome;",
            "use super::{wire, observation};",
            "fn a() -> crate::observation::Outcome { b() }",
            "fn a() { let crate::observation::Outcome::Timeout = b() else { return }; }",
        ] {
            let found = found("prober/core/src/wire.rs", text);
            assert_eq!(
                found,
                ["prober/core/src/wire.rs: wire may not import observation"],
                "{text}"
            );
        }
    }

    #[test]
    fn super_stays_in_the_room_until_it_climbs_out() {
        assert_eq!(
            found("prober/core/src/wire/tcp.rs", "use super::ip::Header;").len(),
            0
        );
        assert_eq!(
            found(
                "prober/core/src/wire/tcp.rs",
                "use super::super::observation::Outcome;"
            )
            .len(),
            1
        );
    }

    #[test]
    fn tests_may_import_anything() {
        let text =
            "//! W.\nfn a() {}\n#[cfg(test)]\nmod tests { use crate::observation::Outcome; }\n";
        assert_eq!(found("prober/core/src/wire.rs", text).len(), 0);
        assert_eq!(
            found(
                "prober/core/src/wire/tests.rs",
                "use crate::observation::Outcome;"
            )
            .len(),
            0
        );
    }

    #[test]
    fn a_word_uses_only_the_words_before_it() {
        assert_eq!(
            found("prober/core/src/random.rs", "use crate::time::Timestamp;").len(),
            0
        );
        assert_eq!(
            found("prober/core/src/time.rs", "use crate::random::Random;").len(),
            1
        );
        assert_eq!(
            found("prober/core/src/time.rs", "use crate::wire::Packet;").len(),
            1
        );
    }

    #[test]
    fn a_foreign_crate_is_found_outside_its_room() {
        assert_eq!(
            found(
                "prober/core/src/packet/tcp.rs",
                "use pnet_packet::tcp::TcpPacket;"
            )
            .len(),
            0
        );
        assert_eq!(
            found(
                "prober/core/src/time.rs",
                "use pnet_packet::tcp::TcpPacket;"
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_new_module_must_be_given_a_row() {
        assert_eq!(found("prober/core/src/attic.rs", "//! Attic.").len(), 1);
    }

    #[test]
    fn no_row_of_the_real_table_reaches_itself() {
        for (name, _) in ROOMS.lines().filter_map(|line| line.split_once(':')) {
            let mut reached: BTreeSet<&str> = BTreeSet::new();
            let mut next = vec![name];
            while let Some(room) = next.pop() {
                for import in
                    allowed(room, ROOMS).unwrap_or_else(|| panic!("{room} has no row of its own"))
                {
                    assert_ne!(import, name, "{name} imports itself through {room}");
                    if reached.insert(import) {
                        next.push(import);
                    }
                }
            }
        }
    }
}
