//! The rules for every file: its length, its first line, its name, and where unsafe code may be.

use super::source::Source;

/// The most product lines of a file, unless it is among [`LONGER`].
pub(crate) const MAX_LINES: usize = 400;

/// Longer files, and why each is one idea.
const LONGER: [(&str, &str); 3] = [
    (
        "prober/core/src/run/transition.rs",
        "the table of states and events is exhaustive only in one match",
    ),
    (
        "prober/core/src/run/actions.rs",
        "the transitions of one state machine, which hand each other its states",
    ),
    (
        "prober/core/src/probe/in_flight.rs",
        "crafted probes and connections of the kernel share one table of slots, ports and timers",
    ),
];

/// The only folder with unsafe code.
const UNSAFE: &str = "prober/net/";

/// Every violation in `files`, one line each.
pub(crate) fn violations(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let path = &file.path;
        if !file.text.starts_with("//!") {
            found.push(format!(
                "{path}: does not start with its module doc (`//!`)"
            ));
        }
        if path.ends_with("/mod.rs") {
            found.push(format!("{path}: name it after its module: no mod.rs"));
        }
        if has_vague_name(path) {
            found.push(format!(
                "{path}: name its content: no util, common, misc, helper, manager"
            ));
        }
        let lines = file.product().lines().count();
        let is_longer = LONGER.iter().any(|(longer, _)| longer == path);
        if !file.is_test() && !is_longer && lines > MAX_LINES {
            found.push(format!(
                "{path}: {lines} product lines, more than {MAX_LINES}: split it by idea"
            ));
        }
        match file.tokens() {
            Err(error) => found.push(error),
            Ok(tokens) => {
                if !path.starts_with(UNSAFE) && tokens.iter().any(|token| token == "unsafe") {
                    found.push(format!("{path}: unsafe code belongs to {UNSAFE}"));
                }
            }
        }
    }
    found
}

/// The files that are never compiled: neither the root of a target (`roots`) nor declared by a `mod`.
pub(crate) fn orphans(files: &[Source], roots: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        if roots.contains(&file.path) {
            continue;
        }
        let stem = file
            .path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".rs");
        let named = files
            .iter()
            .any(|other| other.path != file.path && declares(other, stem));
        if !named {
            found.push(format!(
                "{}: no target and no `mod {stem};` declares it: it is never compiled",
                file.path
            ));
        }
    }
    found
}

fn declares(file: &Source, stem: &str) -> bool {
    let declaration = format!("mod {stem};");
    file.text.lines().any(|line| {
        line.trim()
            .strip_suffix(&declaration)
            .is_some_and(|visibility| visibility.is_empty() || visibility.ends_with(' '))
    })
}

fn has_vague_name(path: &str) -> bool {
    let stem = path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .trim_end_matches(".rs");
    [
        "util", "utils", "common", "misc", "helper", "helpers", "manager",
    ]
    .contains(&stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        violations(&[Source::new(path, text)])
    }

    #[test]
    fn a_tidy_file_breaks_nothing() {
        assert_eq!(
            found("prober/core/src/time.rs", "//! Time.\nfn a() {}\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_file_without_its_doc_is_found() {
        assert_eq!(found("prober/core/src/time.rs", "fn a() {}\n").len(), 1);
    }

    #[test]
    fn a_mod_rs_and_a_vague_name_are_found() {
        assert_eq!(found("prober/core/src/wire/mod.rs", "//! Wire.\n").len(), 1);
        assert_eq!(found("prober/core/src/util.rs", "//! Things.\n").len(), 1);
    }

    #[test]
    fn a_file_that_is_too_long_is_found_unless_tests_make_it_long() {
        let lines = |n: usize| "fn a() {}\n".repeat(n);
        let doc = "//! Long.\n";
        assert_eq!(
            found(
                "prober/core/src/a.rs",
                &format!("{doc}{}", lines(MAX_LINES - 1))
            )
            .len(),
            0
        );
        assert_eq!(
            found(
                "prober/core/src/a.rs",
                &format!("{doc}{}", lines(MAX_LINES))
            )
            .len(),
            1
        );
        assert_eq!(
            found(
                "prober/core/src/a.rs",
                &format!("{doc}#[cfg(test)]\n{}", lines(MAX_LINES))
            )
            .len(),
            0
        );
        assert_eq!(
            found("tests/a.rs", &format!("{doc}{}", lines(MAX_LINES))).len(),
            0
        );
    }

    #[test]
    fn unsafe_code_is_found_outside_net_and_a_mention_of_it_is_not() {
        assert_eq!(
            found(
                "prober/core/src/a.rs",
                "//! A.\nfn a() { unsafe { b() } }\n"
            )
            .len(),
            1
        );
        assert_eq!(
            found("prober/net/src/a.rs", "//! A.\nfn a() { unsafe { b() } }\n").len(),
            0
        );
        assert_eq!(
            found(
                "prober/core/src/a.rs",
                "//! A: never unsafe.\n#![forbid(unsafe_code)]\n"
            )
            .len(),
            0
        );
    }

    #[test]
    fn a_file_that_nothing_names_is_an_orphan() {
        let files = [
            Source::new("prober/core/src/lib.rs", "//! Core.\npub mod wire;\n"),
            Source::new("prober/core/src/wire.rs", "//! Wire.\n"),
            Source::new("prober/core/src/ire.rs", "//! Not wire.\n"),
        ];
        let roots = ["prober/core/src/lib.rs".to_owned()];
        let found = orphans(&files, &roots);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("prober/core/src/ire.rs"));
    }
}
