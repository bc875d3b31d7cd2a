//! A real Prometheus scrapes `/metrics`, as text and as protocol buffers.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use controller::telemetry::http_server::{HttpServer, ReadyState};
use controller::telemetry::{Exporter, Limits, OtlpEndpoints};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::collector::{free, until};
use crate::samples::record;
use crate::traces::same;

pub(crate) fn trials(program: &Path) -> Vec<Trial> {
    let trial = |name: &str, test: fn(&Path) -> Result<(), Failed>| {
        let program: PathBuf = program.to_owned();
        Trial::test(name, move || test(&program))
    };
    vec![
        trial("Prometheus reads classic histograms from text", text),
        trial(
            "Prometheus reads native histograms from protocol buffers",
            protobuf,
        ),
    ]
}

fn text(program: &Path) -> Result<(), Failed> {
    let scraped = Scraped::start(program, "scrape_protocols: [OpenMetricsText1.0.0]")?;
    scraped.has("prober_handshake_duration_seconds_count", "3")?;
    scraped.has(
        r#"prober_handshake_duration_seconds_bucket{le="+Inf"}"#,
        "3",
    )?;
    scraped.figures()
}

fn protobuf(program: &Path) -> Result<(), Failed> {
    let scraped = Scraped::start(program, "scrape_native_histograms: true")?;
    scraped.has("histogram_count(prober_handshake_duration_seconds)", "3")?;
    scraped.figures()
}

/// A Prometheus that scrapes an exporter.
struct Scraped {
    prometheus: Prometheus,
    _runtime: Runtime,
}

/// A Prometheus.
pub(crate) struct Prometheus {
    address: SocketAddr,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Scraped {
    fn start(program: &Path, how: &str) -> Result<Self, Failed> {
        let runtime = Runtime::new()?;
        let targets = OtlpEndpoints::default();
        let exporter = Exporter::start(
            "prober-controller",
            &targets,
            Limits::default(),
            runtime.handle(),
        )?;
        record(&exporter);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = runtime.block_on(HttpServer::bind(any))?;
        let target = server.address()?;
        let metrics = Arc::clone(exporter.metrics());
        let ready = Arc::new(|| ReadyState::Ready);
        runtime.spawn(server.serve(metrics, ready, std::future::pending()));
        same(&status(target, "/healthz")?, &200)?;
        same(&status(target, "/readyz")?, &200)?;

        let how = format!("scrape_interval: 200ms, {how}");
        Ok(Self {
            prometheus: Prometheus::start(program, &how, &[target])?,
            _runtime: runtime,
        })
    }

    /// The metrics that both formats have.
    fn figures(&self) -> Result<(), Failed> {
        self.has(
            r#"prober_handshakes_total{prober_outcome="established"}"#,
            "3",
        )?;
        self.has(
            r#"prober_handshakes_total{prober_cause="bridge-netfilter-off"}"#,
            "1",
        )?;
        self.has(
            r#"prober_path_healthy{prober_access_path="cluster-ip",network_type="ipv4"}"#,
            "0",
        )?;
        self.has(r#"prober_node_healthy{k8s_node_name="node-1"}"#, "0")?;
        self.has(
            r#"prober_outage{k8s_node_name="node-1",prober_cause="bridge-netfilter-off",prober_confidence="proven"}"#,
            "1",
        )?;
        self.has(
            r#"prober_node_not_measured{k8s_node_name="node-2",prober_reason="no-pod"}"#,
            "1",
        )?;
        self.has("prober_coverage_ratio", "0.5")?;
        self.has(r#"prober_agents{prober_agent_state="working"}"#, "2")?;
        self.has("prober_export_dropped_total", "0")
    }

    /// Waits until a query has one result, which is `value`.
    fn has(&self, query: &str, value: &str) -> Result<(), Failed> {
        let got = until(&format!("Prometheus knows {query}"), || {
            let answer = self.prometheus.query(query)?;
            answer["data"]["result"][0]["value"][1]
                .as_str()
                .map(str::to_owned)
        })?;
        same(&got.as_str(), &value)
    }
}

impl Prometheus {
    /// Starts one that scrapes these targets; `how` are settings of all scrapes.
    pub(crate) fn start(program: &Path, how: &str, targets: &[SocketAddr]) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let address = free()?;
        let targets: Vec<String> = targets.iter().map(SocketAddr::to_string).collect();
        let configuration = format!(
            "global: {{scrape_timeout: 200ms, {how}}}\n\
             scrape_configs: [{{job_name: prober, static_configs: [{{targets: {targets:?}}}]}}]\n"
        );
        let file = folder.path().join("prometheus.yaml");
        fs::write(&file, configuration)?;
        let process = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log"))?)
            .spawn()?;
        Ok(Self {
            address,
            process,
            _folder: folder,
        })
    }

    /// The answer to a query; `None` if there is none yet.
    pub(crate) fn query(&self, query: &str) -> Option<Value> {
        let path = format!("/api/v1/query?query={}", encoded(query));
        serde_json::from_str(&get(self.address, &path).ok()?.1).ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It has nothing to save.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn status(address: SocketAddr, path: &str) -> io::Result<u16> {
    get(address, path).map(|(status, _)| status)
}

/// Status and body.
fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other(format!("no answer to GET {path}: {answer}")))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {head}")))?;
    Ok((status, body.to_owned()))
}

fn encoded(query: &str) -> String {
    let bytes = query.bytes().map(|byte| format!("%{byte:02X}"));
    bytes.collect::<Vec<_>>().concat()
}
