//! Exports of telemetry to a real OpenTelemetry Collector by both protocols, and to a real Prometheus in both formats;
//! the alerts and the dashboard on what was recorded.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot look fails, and says why it was left out"
)]

#[path = "export/alerts.rs"]
mod alerts;
#[path = "export/collector.rs"]
mod collector;
#[path = "export/dashboard.rs"]
mod dashboard;
#[path = "export/examples.rs"]
mod examples;
#[path = "export/keys.rs"]
mod keys;
#[path = "export/metrics.rs"]
mod metrics;
#[path = "tools/part.rs"]
mod part;
#[path = "lab/program.rs"]
mod program;
#[path = "export/prometheus.rs"]
mod prometheus;
#[path = "export/run.rs"]
mod run;
#[path = "export/samples.rs"]
mod samples;
#[path = "export/traces.rs"]
mod traces;

use std::path::Path;

use libtest_mimic::{Arguments, Trial};

use part::part;

fn main() {
    let mut arguments = Arguments::from_args();
    // Labs that run at the same time would starve each other's agents.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let mut trials = Vec::new();
    let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    for (name, what, trials_with) in [
        (
            "collector",
            "an OpenTelemetry Collector",
            with_collector as fn(&Path) -> Vec<Trial>,
        ),
        ("prometheus", "a Prometheus", with_prometheus),
        ("promtool", "promtool", alerts::trials),
    ] {
        match part(name) {
            Ok(program) => trials.extend(trials_with(&program)),
            Err(why) if is_ci => {
                trials.push(Trial::test(format!("{name} is there"), move || {
                    Err(why.into())
                }));
            }
            Err(why) => println!("left out: every test with {what}, since {why}"),
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn with_prometheus(program: &Path) -> Vec<Trial> {
    let mut trials = prometheus::trials(program);
    trials.extend(dashboard::trials(program));
    trials
}

fn with_collector(program: &Path) -> Vec<Trial> {
    let mut trials = traces::trials(program);
    trials.extend(metrics::trials(program));
    trials.extend(examples::trials(program));
    if std::env::var_os("PROBER_SKIP_PRIVILEGED").is_some() {
        println!("left out: every run of the lab, since PROBER_SKIP_PRIVILEGED is set");
    } else {
        trials.extend(run::trials(program));
    }
    trials
}
