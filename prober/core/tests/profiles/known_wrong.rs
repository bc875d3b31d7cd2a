//! The ratchet: what is wrong today, in a file, and nothing else. A verdict that becomes wrong fails the test, and so does
//! one that is listed and no longer wrong.
//!
//! A line is `id | what is said`; only the ids are compared. A test that fails writes the list as it should be beside the
//! file, with the suffix `.new`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Compares what is wrong with the lists of these names.
pub(crate) fn check(lists: &[(&str, BTreeMap<String, String>)]) {
    let differences: Vec<String> = lists
        .iter()
        .filter_map(|(list, wrong)| compare(list, wrong))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The difference between what is wrong and a list; `None` where there is none.
#[expect(
    clippy::disallowed_methods,
    reason = "the lists are files beside the tests"
)]
fn compare(list: &str, wrong: &BTreeMap<String, String>) -> Option<String> {
    let folder = [
        env!("CARGO_MANIFEST_DIR"),
        "tests",
        "profiles",
        "known_wrong",
        list,
    ];
    let path = folder.iter().collect::<PathBuf>().with_extension("txt");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let listed = text.lines().filter_map(|line| line.split_once(" | "));
    let listed: BTreeMap<&str, &str> = listed.collect();
    let added = wrong
        .iter()
        .filter(|(id, _)| !listed.contains_key(id.as_str()));
    let added: Vec<String> = added.map(|(id, said)| format!("{id} | {said}")).collect();
    let cured = listed.keys().filter(|id| !wrong.contains_key(**id));
    let cured: Vec<&str> = cured.copied().collect();
    let fresh = path.with_extension("txt.new");
    if added.is_empty() && cured.is_empty() {
        drop(fs::remove_file(fresh));
        return None;
    }
    let lines = wrong.iter().map(|(id, said)| format!("{id} | {said}\n"));
    fs::write(&fresh, lines.collect::<String>()).unwrap();
    Some(format!(
        "{}: {} are wrong and not listed:\n{}\n{} are listed and no longer wrong:\n{}\nthe list as it should be: {}",
        path.display(),
        added.len(),
        added.join("\n"),
        cured.len(),
        cured.join("\n"),
        fresh.display(),
    ))
}
