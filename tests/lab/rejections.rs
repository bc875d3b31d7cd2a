//! Rejected input and missing privileges, with their error messages.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::{Failed, Trial};

use crate::harness::{Report, prober};
use crate::program::PROBER;
use crate::scenarios::causes;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "the error for an unknown fault names a similar one",
            unknown_fault,
        ),
        Trial::test(
            "the error for an unknown node names the known ones",
            unknown_node,
        ),
        Trial::test(
            "the error for a fault that a data plane cannot have names those that can",
            fault_of_another_data_plane,
        ),
        Trial::test(
            "the error for a file that is no capture names it and says what it is",
            no_capture,
        ),
        Trial::test(
            "a truncated capture is read to its end and reported as truncated",
            cut_capture,
        ),
        Trial::test("the error for a file that is no report names it", no_report),
        Trial::test("an unknown cause is rejected", unknown_cause),
        Trial::test(
            "a run without CAP_NET_RAW is of tier T0, reports that, and proves nothing",
            no_raw_sockets,
        ),
        Trial::test(
            "the error for refused namespaces says how to allow them",
            no_namespaces,
        ),
    ]
}

fn assert_rejected(arguments: &[&str], words: &[&str]) -> Result<(), Failed> {
    assert_error(&prober(arguments), words)
}

/// Fails unless the program ended with status 2 and these words on standard error.
fn assert_error(output: &Output, words: &[&str]) -> Result<(), Failed> {
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
    assert_rejected(
        &["run", "--lab", "--fault", "bridge-netfilter-of"],
        &["bridge-netfilter-off"],
    )
}

fn unknown_node() -> Result<(), Failed> {
    assert_rejected(
        &["run", "--lab", "--node", "node-9"],
        &["node-9", "node-1", "node-2"],
    )
}

fn fault_of_another_data_plane() -> Result<(), Failed> {
    assert_rejected(
        &[
            "run",
            "--lab",
            "--data-plane",
            "macvlan",
            "--fault",
            "hairpin-off",
        ],
        &["hairpin-off", "macvlan", "bridge-vxlan", "cross-subnet"],
    )?;
    assert_rejected(
        &["run", "--lab", "--data-plane", "ovs"],
        &["ovs", "macvlan"],
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
        ("printed.pcap", "not a capture file"),
        ("absent.pcap", "No such file"),
    ] {
        assert_rejected(&["replay", &named(name)], &[name, word])?;
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
    if !report.text.contains("the file ends within a packet") {
        return Err(format!("the report does not mention it: {}", report.summary()).into());
    }
    report.diagnosis("bridge-netfilter-off").map(drop)
}

fn no_report() -> Result<(), Failed> {
    assert_rejected(
        &["report", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")],
        &["Cargo.toml", "not a report of prober"],
    )
}

fn unknown_cause() -> Result<(), Failed> {
    assert_rejected(
        &["explain", "nonsense"],
        &["nonsense", "`prober explain` lists them"],
    )
}

/// Returns a command that runs the program without a capability, in a new user namespace where the caller is not root.
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
    // A host-network agent never captures packets; that is not a limit.
    let is_host = |agent: &serde_json::Value| agent["pod"].to_string().contains("-host");
    let agents = report.agents.iter().filter(|agent| !is_host(agent));
    let are_limited = agents.clone().count() > 0
        && agents.clone().all(|agent| {
            agent["tier"] == "T0" && agent["limits"].to_string().contains("CAP_NET_RAW")
        });
    if !are_limited {
        return Err(format!("the agents do not report their limits: {:?}", report.agents).into());
    }
    report.names_only(&causes(&["bridge-netfilter-off"]))?;
    let diagnosis = report.diagnosis("bridge-netfilter-off")?;
    if diagnosis.confidence != "consistent" || diagnosis.node.as_deref() != Some("node-1") {
        return Err(format!("{diagnosis:#?}").into());
    }
    Ok(())
}

/// Runs the program as an unprivileged user in a user namespace that may not create further ones.
fn no_namespaces() -> Result<(), Failed> {
    let script = "echo 1 >/proc/sys/user/max_user_namespaces \
        && exec unshare --user --map-user=1000 -- \"$0\" run --lab";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .arg(&*PROBER)
        .output()?;
    assert_error(
        &output,
        &[
            "cannot make namespaces for the lab",
            "user.max_user_namespaces",
            "or run as root",
        ],
    )
}
