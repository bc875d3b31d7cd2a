//! The dashboard: each of its queries returns data from a real Prometheus, which has scraped what was recorded on a cluster.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use controller::canary::controller::observer::{Observer as _, Reconciled};
use controller::telemetry::metrics::{Exposition, expose};
use controller::telemetry::{Exporter, Limits, OtlpEndpoints};
use libtest_mimic::{Failed, Trial};
use prober_core::standing::metrics::{StandingGauges, StandingMetrics};
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::collector::until;
use crate::prometheus::Prometheus;

pub(crate) fn trials(program: &Path) -> Vec<Trial> {
    let program = program.to_owned();
    vec![
        Trial::test("dashboard: it reads metrics that there are", reads_what_is),
        Trial::test("dashboard: each query returns data of a fault", move || {
            returns_data(&program)
        }),
    ]
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Recordings of two scrapes half a minute apart: of a cluster where node-1 has a fault, and of the controller of one where
/// node-2 has no agents.
const RECORDED: [(&str, &str); 4] = [
    ("controller", OPEN_METRICS),
    ("controller-not-measured", OPEN_METRICS),
    ("client", "text/plain; version=0.0.4"),
    ("server", "text/plain; version=0.0.4"),
];

fn dashboard() -> Result<Value, Failed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dashboard/prober.json");
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

/// Every query of panels and annotations.
fn queries(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(
                fields
                    .get("expr")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            fields.values().for_each(|value| queries(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The names of metrics in a query or an exposition.
fn names(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_of_name(c));
    // Labels of the controller's metrics begin with the same word.
    let labels = [
        "prober_cause",
        "prober_confidence",
        "prober_reason",
        "prober_outcome",
        "prober_agent_state",
    ];
    words
        .filter(|word| word.starts_with("prober_") && !labels.contains(word))
        .map(|word| {
            let ends = ["_total", "_bucket", "_ratio", "_seconds"];
            let stripped = ends
                .iter()
                .fold(word, |word, end| word.strip_suffix(end).unwrap_or(word));
            stripped.to_owned()
        })
        .collect()
}

fn reads_what_is() -> Result<(), Failed> {
    let runtime = Runtime::new()?;
    let endpoints = OtlpEndpoints::default();
    let exporter = Exporter::start(
        "prober-controller",
        &endpoints,
        Limits::default(),
        runtime.handle(),
    )?;
    exporter.reconciled(Reconciled::Written, Duration::from_millis(1));
    exporter.evaluated(Duration::from_millis(1));
    crate::samples::record(&exporter);
    let mut text = String::from_utf8(expose(exporter.metrics(), Exposition::Text)?)?;
    let agent = StandingMetrics::new(NodeName::new("node-1"), Timestamp::default());
    agent.render(StandingGauges::default(), &mut text)?;
    let exposed = names(&text);
    let mut read = BTreeSet::new();
    queries(&dashboard()?, &mut read);
    let missing: BTreeSet<String> = (read.iter().flat_map(|query| names(query)))
        .filter(|name| !exposed.contains(name))
        .collect();
    if !read.is_empty() && missing.is_empty() {
        return Ok(());
    }
    Err(format!("no program has {missing:?}; the queries are {read:#?}").into())
}

fn returns_data(program: &Path) -> Result<(), Failed> {
    let mut targets = Vec::new();
    for (name, content_type) in RECORDED {
        targets.push(serve(name, content_type)?);
    }
    let prometheus = Prometheus::start(program, "scrape_interval: 200ms", &targets)?;
    let dashboard = dashboard()?;
    let mut read = BTreeSet::new();
    queries(&dashboard, &mut read);
    for query in read {
        let query = query
            .replace("$__rate_interval", "1h")
            .replace("=\"$access_path\"", "=\"cluster-ip-local\"")
            .replace("$access_path", ".*")
            .replace("$scope", ".*");
        until(&format!("{query} returns data"), || {
            let answer = prometheus.query(&query)?;
            let series = answer["data"]["result"].as_array()?;
            let mut values = series.iter().map(|series| &series["value"][1]);
            values.any(|value| value != "NaN").then_some(())
        })?;
    }
    for variable in dashboard["templating"]["list"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let Some(query) = variable["query"]["query"].as_str() else {
            continue;
        };
        let label = (query.strip_prefix("label_values(prober_probes_total, "))
            .and_then(|rest| rest.strip_suffix(')'))
            .ok_or_else(|| format!("{query} is no list of labels"))?;
        until(&format!("{label} has values"), || {
            let answer = prometheus.query(&format!("count by ({label}) (prober_probes_total)"))?;
            let series = answer["data"]["result"].as_array()?;
            series
                .iter()
                .any(|series| series["metric"][label].is_string())
                .then_some(())
        })?;
    }
    Ok(())
}

/// Serves both recordings of a program: the first one five times, then the second one.
fn serve(name: &'static str, content_type: &'static str) -> Result<SocketAddr, Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("export/recordings");
    let read = |which: &str| -> io::Result<String> {
        let path: PathBuf = folder.join(format!("{name}-{which}.txt"));
        fs::read_to_string(path)
    };
    let (first, second) = (read("1")?, read("2")?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // It ends with the process.
    thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let body = if count < 5 { &first } else { &second };
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok() {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                drop(stream.write_all((head + body).as_bytes()));
            }
        }
    });
    Ok(address)
}
