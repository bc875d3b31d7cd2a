//! What is refused, and in which words: bad input, and what the system does not allow.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::{Failed, Trial};

use crate::harness::{Report, prober};
use crate::program::PROBER;
use crate::stories::causes;

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
        Trial::test(
            "a file that is no capture is refused by its name, and says what it is",
            no_capture,
        ),
        Trial::test(
            "a capture that was cut off is read as far as it goes, and says so",
            cut_capture,
        ),
        Trial::test("a file that is no report is refused by its name", no_report),
        Trial::test("an unknown cause is refused", unknown_cause),
        Trial::test(
            "without CAP_NET_RAW a run is of tier T0, says so, and proves nothing",
            no_raw_sockets,
        ),
        Trial::test(
            "where namespaces are refused a lab says how to get them",
            no_namespaces,
        ),
    ]
}

fn refused(arguments: &[&str], words: &[&str]) -> Result<(), Failed> {
    could_not_run(&prober(arguments), words)
}

/// Fails unless the program could not run and said all these words.
fn could_not_run(output: &Output, words: &[&str]) -> Result<(), Failed> {
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

fn no_capture() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let named = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(named("empty.pcap"), [])?;
    std::fs::write(
        named("printed.pcap"),
        "IP 10.0.0.1.5 > 10.0.0.2.80: Flags [S]\n",
    )?;
    for (name, word) in [
        ("empty.pcap", "the file is empty"),
        ("printed.pcap", "no capture file"),
        ("absent.pcap", "No such file"),
    ] {
        refused(&["replay", &named(name)], &[name, word])?;
    }
    Ok(())
}

fn cut_capture() -> Result<(), Failed> {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/founding-incident.pcapng");
    let bytes = std::fs::read(whole)?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(
        file.path(),
        bytes
            .split_last_chunk::<7>()
            .map_or(&[][..], |(kept, _)| kept),
    )?;
    let output = prober(&["replay", "-o", "json", &file.path().to_string_lossy()]);
    let report = Report::read(&output)?;
    if !report.text.contains("the file ends within a block") {
        return Err(format!("it does not say so: {}", report.summary()).into());
    }
    report.diagnosis("bridge-netfilter-off").map(drop)
}

fn no_report() -> Result<(), Failed> {
    refused(
        &["report", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")],
        &["Cargo.toml", "no report of prober"],
    )
}

fn unknown_cause() -> Result<(), Failed> {
    refused(
        &["explain", "nonsense"],
        &["nonsense", "`prober explain` lists them"],
    )
}

/// What drops capabilities for good; in a user namespace of its own where the caller is not root.
fn without(capability: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--"]);
    command.args(["setpriv", &format!("--bounding-set=-{capability}"), "--"]);
    command.arg(&*PROBER);
    command
}

fn no_raw_sockets() -> Result<(), Failed> {
    let output = without("net_raw")
        .args("run --lab -o json --fault bridge-netfilter-off@node-1".split(' '))
        .output()?;
    let report = Report::read(&output)?;
    // Hosts never see packets, which is no lack of theirs.
    let is_host = |agent: &serde_json::Value| agent["pod"].to_string().contains("-host");
    let agents = report.agents.iter().filter(|agent| !is_host(agent));
    let are_limited = agents.clone().count() > 0
        && agents.clone().all(|agent| {
            agent["tier"] == "T0" && agent["limits"].to_string().contains("CAP_NET_RAW")
        });
    if !are_limited {
        return Err(format!("the agents do not say what they lack: {:?}", report.agents).into());
    }
    report.names_only(&causes(&["bridge-netfilter-off"]))?;
    let diagnosis = report.diagnosis("bridge-netfilter-off")?;
    if diagnosis.confidence != "consistent" || diagnosis.node.as_deref() != Some("node-1") {
        return Err(format!("{diagnosis:#?}").into());
    }
    Ok(())
}

/// An ordinary user of a user namespace that may have no other one within it.
fn no_namespaces() -> Result<(), Failed> {
    let script = "echo 1 >/proc/sys/user/max_user_namespaces \
        && exec unshare --user --map-user=1000 -- \"$0\" run --lab";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .arg(&*PROBER)
        .output()?;
    could_not_run(
        &output,
        &[
            "cannot make namespaces for the lab",
            "user.max_user_namespaces",
            "or run as root",
        ],
    )
}
