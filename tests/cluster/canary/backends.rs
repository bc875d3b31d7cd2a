//! The telemetry backends of a canary: a Collector with the pipeline of deploy/examples, and behind it Jaeger and
//! Prometheus; the same Prometheus also scrapes. All of them are real and run in the control plane's network, which
//! pods can reach.

use std::fs;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;
use serde_json::Value;

use super::{Canary, NAMESPACE, file};
use crate::harness::{Cluster, wait_until};
use crate::part::part;

/// The Collector's address for pods and the control plane.
pub(super) const COLLECTOR: &str = "http://10.99.0.10:4318";

const TRACES: &str = "http://127.0.0.1:14318";
const JAEGER: &str = "http://127.0.0.1:16686";
const PROMETHEUS: &str = "http://127.0.0.1:9090";

/// The backends; they run until this is dropped.
pub(super) struct Backends<'a> {
    canary: &'a Canary,
    collector: Option<Child>,
    jaeger: Child,
    prometheus: Child,
    folder: tempfile::TempDir,
}

impl<'a> Backends<'a> {
    pub(super) fn start(canary: &'a Canary) -> Result<Self, Failed> {
        let cluster = &canary.cluster;
        reach_pods(cluster)?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("targets.json"), "[]")?;
        let scrape = format!(
            "global: {{scrape_interval: 500ms, scrape_native_histograms: true}}\n\
             scrape_configs: [{{job_name: scraped, file_sd_configs: [{{files: ['{}/targets.json']}}]}}]\n",
            folder.path().display()
        );
        fs::write(folder.path().join("prometheus.yaml"), scrape)?;
        let log = |name: &str| fs::File::create(folder.path().join(name));
        let jaeger = cluster
            .command(part("jaeger")?)
            .args(["--collector.otlp.http.host-port", "127.0.0.1:14318"])
            .args(["--collector.otlp.grpc.host-port", "127.0.0.1:14317"])
            .args(["--query.http-server.host-port", "127.0.0.1:16686"])
            .args(["--query.grpc-server.host-port", "127.0.0.1:16685"])
            .args(["--admin.http.host-port", "127.0.0.1:14269"])
            .arg("--memory.max-traces=10000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log("jaeger.log")?)
            .spawn()?;
        let prometheus = cluster
            .command(part("prometheus")?)
            .args([
                "--web.enable-otlp-receiver",
                "--web.listen-address=127.0.0.1:9090",
            ])
            .arg(format!(
                "--config.file={}/prometheus.yaml",
                folder.path().display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}/data",
                folder.path().display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log("prometheus.log")?)
            .spawn()?;
        let mut backends = Self {
            canary,
            collector: None,
            jaeger,
            prometheus,
            folder,
        };
        backends.start_collector()?;
        wait_until("Jaeger and Prometheus answer", || {
            Ok(backends.get(JAEGER, "/api/services").is_ok()
                && backends.get(PROMETHEUS, "/api/v1/status/buildinfo").is_ok())
        })?;
        Ok(backends)
    }

    /// Starts a Collector with the pipeline of deploy/examples.
    pub(super) fn start_collector(&mut self) -> Result<(), Failed> {
        let example = file("examples/otel-collector.yaml");
        let path = "jsonpath={.data.config\\.yaml}";
        let documents = ["create", "--dry-run=client", "-f", &example, "-o", path];
        let pipeline = self.canary.cluster.kubectl(&documents)?;
        let configuration = self.folder.path().join("collector.yaml");
        fs::write(&configuration, pipeline)?;
        let process = (self.canary.cluster)
            .command(part("collector")?)
            .arg("--config")
            .arg(&configuration)
            .env("TRACES_ENDPOINT", TRACES)
            .env("METRICS_ENDPOINT", format!("{PROMETHEUS}/api/v1/otlp"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.folder.path().join("collector.log"))?)
            .spawn()?;
        self.collector = Some(process);
        Ok(())
    }

    pub(super) fn stop_collector(&mut self) -> Result<(), Failed> {
        if let Some(mut collector) = self.collector.take() {
            collector.kill()?;
            collector.wait()?;
        }
        Ok(())
    }

    /// Makes Prometheus scrape the controllers' current pods.
    pub(super) fn scrape_pods(&self) -> Result<(), Failed> {
        let targets: Vec<String> = (self.canary.pods()?.into_iter())
            .map(|(_, address)| format!("\"{address}:9090\""))
            .collect();
        let list = format!("[{{\"targets\": [{}]}}]", targets.join(", "));
        // Prometheus reads it on a change, and must never find half of it.
        let new = self.folder.path().join("targets.new");
        fs::write(&new, list)?;
        fs::rename(new, self.folder.path().join("targets.json"))?;
        Ok(())
    }

    fn get(&self, server: &str, path: &str) -> Result<Value, Failed> {
        let server = format!("--server={server}");
        let answer = (self.canary.cluster).kubectl(&[&server, "get", "--raw", path])?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// The current values of a Prometheus query.
    pub(super) fn query(&self, query: &str) -> Result<Vec<String>, Failed> {
        let encoded = percent(query);
        let answer = self.get(PROMETHEUS, &format!("/api/v1/query?query={encoded}"))?;
        let result = answer["data"]["result"].as_array();
        Ok((result.into_iter().flatten())
            .map(|series| series["value"][1].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// The traces in Jaeger from this service with this cause on that node.
    pub(super) fn traces(
        &self,
        service: &str,
        cause: &str,
        node: &str,
    ) -> Result<Vec<Value>, Failed> {
        let tags = format!("{{\"prober.cause\":\"{cause}\",\"prober.cause.node\":\"{node}\"}}");
        let encoded = percent(&tags);
        let path = format!("/api/traces?service={service}&limit=100&tags={encoded}");
        let answer = self.get(JAEGER, &path)?;
        Ok(answer["data"].as_array().cloned().unwrap_or_default())
    }

    /// The end of their logs.
    pub(super) fn logs(&self) -> String {
        let logs = Command::new("tail")
            .args(["-n", "5"])
            .args(
                ["jaeger.log", "prometheus.log", "collector.log"]
                    .map(|log| self.folder.path().join(log)),
            )
            .output();
        logs.map(|logs| String::from_utf8_lossy(&logs.stdout).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Backends<'_> {
    fn drop(&mut self) {
        drop(self.stop_collector());
        for process in [&mut self.jaeger, &mut self.prometheus] {
            // They have nothing to save.
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// Lets the control plane's network reach pods, as many clouds' networks do.
pub(super) fn reach_pods(cluster: &Cluster) -> Result<(), Failed> {
    let path = "jsonpath={range .items[*]}{.spec.podCIDRs[0]} {.status.addresses[0].address}{\"\\n\"}{end}";
    let nodes = cluster.kubectl(&["get", "nodes", "-o", path])?;
    for (network, gateway) in nodes.lines().filter_map(|line| line.split_once(' ')) {
        let route = ["route", "replace", network, "via", gateway];
        let status = cluster.command("ip").args(route).status()?;
        if !status.success() {
            return Err(format!("no route to {network}").into());
        }
    }
    Ok(())
}

impl Canary {
    /// Makes the controllers' pods send telemetry to the Collector, and waits until they do.
    pub(super) fn export_to_collector(&self) -> Result<(), Failed> {
        let deployment = "deployment/prober-controller";
        let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT={COLLECTOR}");
        let interval = "OTEL_METRIC_EXPORT_INTERVAL=1000";
        self.cluster.kubectl(&[
            "set", "env", "-n", NAMESPACE, deployment, &endpoint, interval,
        ])?;
        self.cluster.kubectl(&[
            "rollout",
            "status",
            deployment,
            "-n",
            NAMESPACE,
            "--timeout=120s",
        ])?;
        wait_until("two pods are left", || Ok(self.pods()?.len() == 2))
    }
}

/// Percent-encoded for a URL (RFC 3986 2.1).
fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        encoded.extend(["%".to_owned(), format!("{byte:02X}")]);
    }
    encoded
}
