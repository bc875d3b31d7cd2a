//! What is refused, and in which words: bad input, and what the system does not allow.

use std::io::Write as _;

use libtest_mimic::{Failed, Trial};

use crate::harness::prober;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "an unknown fault is refused with what it could be",
            unknown_fault,
        ),
        Trial::test(
            "an unknown node is refused with those there are",
            unknown_node,
        ),
    ]
}

fn refused(arguments: &[&str], words: &[&str]) -> Result<(), Failed> {
    let output = prober(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(2) || !words.iter().all(|word| text.contains(word)) {
        std::io::stderr().write_all(&output.stderr)?;
        return Err(format!(
            "status {:?}, expected 2 and the words {words:?}: {text}",
            output.status.code()
        )
        .into());
    }
    Ok(())
}

fn unknown_fault() -> Result<(), Failed> {
    refused(
        &["run", "--lab", "--fault", "bridge-netfilter-of"],
        &["bridge-netfilter-off"],
    )
}

fn unknown_node() -> Result<(), Failed> {
    refused(
        &["run", "--lab", "--node", "node-9"],
        &["node-9", "node-1", "node-2"],
    )
}
