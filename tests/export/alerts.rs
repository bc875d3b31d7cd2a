//! The alerts on recorded metrics: they name the fault of a real cluster, and are silent while it is upgraded and rebooted.
//!
//! `scripts/record-metrics` has written the recordings, but for one that a test of the controller writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

/// A recording, and which alerts fire in it.
struct Recorded {
    name: &'static str,
    what: &'static str,
    /// Its end.
    end: &'static str,
    /// When none fires any more; `None` where the recording ends before.
    resolved: Option<&'static str>,
    firing: &'static [Firing],
}

/// An alert that fires.
struct Firing {
    /// Within the recording, as promtool writes it.
    at: &'static str,
    alert: &'static str,
    labels: &'static [(&'static str, &'static str)],
    severity: &'static str,
}

/// The fault is injected after 20 s, and healed after 120 s.
const FOUNDING: &[(&str, &str)] = &[
    ("k8s_node_name", "node-1"),
    ("prober_cause", "bridge-netfilter-off"),
    ("prober_confidence", "proven"),
];

const RECORDED: &[Recorded] = &[
    Recorded {
        name: "fault",
        what: "a fault of a node is an alert with its cause, and ends with it",
        end: "235s",
        resolved: Some("5m"),
        firing: &[Firing {
            at: "1m",
            alert: "ProberOutage",
            labels: FOUNDING,
            severity: "critical",
        }],
    },
    Recorded {
        name: "upgrade",
        what: "an upgrade and a rollback by Helm are silent",
        end: "295s",
        resolved: None,
        firing: &[],
    },
    Recorded {
        name: "reboot",
        what: "a node that loses its power and boots is silent",
        end: "415s",
        resolved: None,
        firing: &[],
    },
    Recorded {
        name: "rolling-reboot",
        what: "two hundred nodes that reboot in turn are silent",
        end: "20m",
        resolved: None,
        firing: &[],
    },
    Recorded {
        name: "not-measured",
        what: "a node without agents and a cluster without a leader are alerts",
        end: "28m",
        resolved: None,
        firing: &[
            Firing {
                at: "18m",
                alert: "ProberNodeNotMeasured",
                labels: &[("k8s_node_name", "node-2"), ("prober_reason", "no-pod")],
                severity: "warning",
            },
            Firing {
                at: "28m",
                alert: "ProberNoLeader",
                labels: &[],
                severity: "warning",
            },
        ],
    },
];

pub(crate) fn trials(program: &Path) -> Vec<Trial> {
    let of = |recorded: &'static Recorded| {
        let program = program.to_owned();
        Trial::test(format!("alerts: {}", recorded.what), move || {
            alerts(&program, recorded)
        })
    };
    let dropping = program.to_owned();
    let text = program.to_owned();
    let mut trials: Vec<Trial> = RECORDED.iter().map(of).collect();
    trials.push(Trial::test(
        "alerts: spans that are dropped once are none, and those that are dropped on and on are one",
        move || drops(&dropping),
    ));
    trials.push(Trial::test("alerts: the text of an outage", move || {
        says(&text)
    }));
    trials
}

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts/prober.rules.yaml")
}

/// The recording: its interval and its series.
fn recording(name: &str) -> Result<Value, Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("export/recordings");
    let text = fs::read_to_string(folder.join(format!("{name}.yaml")))?;
    Ok(serde_saphyr::from_str(&text)?)
}

/// Runs a test of promtool on this input.
fn promtool(program: &Path, mut test: Value, checks: &Value) -> Result<(), Failed> {
    for (key, check) in checks.as_object().into_iter().flatten() {
        test[key] = check.clone();
    }
    let rules = rules().canonicalize()?;
    let file = json!({"rule_files": [rules], "evaluation_interval": "15s", "tests": [test]});
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("test.yaml");
    fs::write(&path, file.to_string())?;
    let output = Command::new(program)
        .args(["test", "rules"])
        .arg(path)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let streams = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&streams).into_owned().into())
}

/// The alerts that fire at a time, and no others.
fn firing(at: &str, alerts: &[&Firing]) -> Value {
    let samples: Vec<Value> = (alerts.iter())
        .map(|firing| {
            let mut labels = vec![
                format!("alertname=\"{}\"", firing.alert),
                "alertstate=\"firing\"".to_owned(),
                format!("severity=\"{}\"", firing.severity),
            ];
            let own = firing.labels.iter();
            labels.extend(own.map(|(key, value)| format!("{key}=\"{value}\"")));
            json!({"labels": format!("ALERTS{{{}}}", labels.join(",")), "value": 1})
        })
        .collect();
    json!({"expr": "ALERTS{alertstate=\"firing\"}", "eval_time": at, "exp_samples": samples})
}

/// Until the end of the recording no other alerts fire than these.
fn ever(end: &str, alerts: &[Firing]) -> Value {
    let samples: Vec<Value> = (alerts.iter())
        .map(|firing| json!({"labels": format!("{{alertname=\"{}\"}}", firing.alert), "value": 1}))
        .collect();
    let expr = "group by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[2h]))";
    json!({"expr": expr, "eval_time": end, "exp_samples": samples})
}

fn alerts(program: &Path, recorded: &Recorded) -> Result<(), Failed> {
    let at = (recorded.firing.iter()).map(|one| firing(one.at, &[one]));
    let mut tests: Vec<Value> = at.collect();
    tests.push(ever(recorded.end, recorded.firing));
    if let Some(resolved) = recorded.resolved {
        tests.push(firing(resolved, &[]));
    }
    let input = recording(recorded.name)?;
    promtool(program, input, &json!({"promql_expr_test": tests}))
}

fn drops(program: &Path) -> Result<(), Failed> {
    let dropping = Firing {
        at: "30m",
        alert: "ProberExportDropping",
        labels: &[("pod", "prober-controller-0")],
        severity: "warning",
    };
    for (values, alerts) in [("0x10 7x60", &[][..]), ("0+5x120", &[&dropping][..])] {
        let input = json!({
            "interval": "30s",
            "input_series": [
                {"series": "prober_export_dropped_total{pod=\"prober-controller-0\"}", "values": values},
                {"series": "prober_leader{pod=\"prober-controller-0\"}", "values": "1x120"},
            ],
        });
        let tests = json!([firing("30m", alerts), firing("20m", alerts)]);
        promtool(program, input, &json!({"promql_expr_test": tests}))?;
    }
    Ok(())
}

/// The text with a node and without one, and where the runbook is.
fn says(program: &Path) -> Result<(), Failed> {
    let book = "https://github.com/prober-dev/prober/blob/main/docs";
    for (labels, place, cause, runbook) in [
        (
            json!({"k8s_node_name": "node-1"}),
            "Node node-1",
            "hairpin-off",
            "causes/hairpin-off.md",
        ),
        (json!({}), "Several nodes", "unknown", "alerts.md#unknown"),
        (
            json!({"k8s_node_name": "node-2"}),
            "Node node-2",
            "agent-silent",
            "alerts.md#agent-silent",
        ),
    ] {
        let mut labels = labels;
        labels["prober_cause"] = cause.into();
        labels["prober_confidence"] = "proven".into();
        let pairs =
            (labels.as_object().into_iter().flatten()).map(|(key, value)| format!("{key}={value}"));
        let series = format!("prober_outage{{{}}}", pairs.collect::<Vec<_>>().join(","));
        labels["severity"] = "critical".into();
        let input =
            json!({"interval": "15s", "input_series": [{"series": series, "values": "1x9"}]});
        let alert = json!({
            "exp_labels": labels,
            "exp_annotations": {
                "summary": format!("{place}: connections through Services fail, {cause} (proven)"),
                "description": "`kubectl get connectivitychecks -o yaml` has the failing paths, their place, and since when; \
                                the runbook has the remedy.",
                "runbook_url": format!("{book}/{runbook}"),
            },
        });
        let checks =
            json!([{"eval_time": "1m", "alertname": "ProberOutage", "exp_alerts": [alert]}]);
        promtool(program, input, &json!({"alert_rule_test": checks}))?;
    }
    Ok(())
}
