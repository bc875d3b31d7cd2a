//! An OpenTelemetry Collector that receives OTLP on two ports and writes it as lines of JSON.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::keys::Keys;

/// The timeout of every wait in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The token that the guarded Collector requires.
pub(crate) const TOKEN: &str = "a-token-of-the-tests";

/// A Collector, running or not.
pub(crate) struct Collector {
    program: PathBuf,
    folder: tempfile::TempDir,
    /// Its OTLP address for gRPC.
    pub(crate) grpc: SocketAddr,
    /// Its OTLP address for HTTP.
    pub(crate) http: SocketAddr,
    process: Option<Child>,
}

/// A span as the Collector wrote it, with its resource.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// The attributes of its resource.
    pub(crate) resource: Value,
    /// The span.
    pub(crate) span: Value,
}

impl Collector {
    /// A Collector without authentication; it does not run yet.
    pub(crate) fn new(program: &Path) -> io::Result<Self> {
        let open = json!({});
        Self::configured(program, &open, &open, &open)
    }

    /// A Collector that accepts only TLS, clients with a certificate of the same authority, and the token, and over
    /// HTTP only gzip. It does not run yet.
    pub(crate) fn guarded(program: &Path, keys: &Keys) -> io::Result<Self> {
        let tls = json!({
            "cert_file": keys.server.certificate,
            "key_file": keys.server.key,
            "client_ca_file": keys.authority,
        });
        let auth = json!({"authenticator": "bearertokenauth"});
        Self::configured(
            program,
            &json!({"tls": tls, "auth": auth}),
            &json!({"tls": tls, "auth": auth, "compression_algorithms": ["gzip"]}),
            &json!({"bearertokenauth": {"token": TOKEN}}),
        )
    }

    fn configured(
        program: &Path,
        over_grpc: &Value,
        over_http: &Value,
        extensions: &Value,
    ) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (grpc, http) = (free()?, free()?);
        let lines = |name: &str| {
            let path = folder.path().join(name).display().to_string();
            json!({"path": path, "append": true, "flush_interval": "100ms"})
        };
        let at = |address: SocketAddr, settings: &Value| {
            let mut settings = settings.clone();
            settings["endpoint"] = address.to_string().into();
            settings
        };
        let names: Vec<&String> = extensions
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name)
            .collect();
        let configuration = json!({
            "receivers": {"otlp": {"protocols": {"grpc": at(grpc, over_grpc), "http": at(http, over_http)}}},
            "exporters": {"file/traces": lines("traces.jsonl"), "file/metrics": lines("metrics.jsonl")},
            "service": {
                "extensions": names,
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "exporters": ["file/traces"]},
                    "metrics": {"receivers": ["otlp"], "exporters": ["file/metrics"]},
                },
            },
            "extensions": extensions,
        });
        fs::write(folder.path().join("config.yaml"), configuration.to_string())?;
        Ok(Self {
            program: program.to_owned(),
            folder,
            grpc,
            http,
            process: None,
        })
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let log = fs::File::create(self.folder.path().join("log"))?;
        let process = Command::new(&self.program)
            .arg("--config")
            .arg(self.folder.path().join("config.yaml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.process = Some(process);
        let listens = |address| TcpStream::connect(address).is_ok();
        until("the Collector listens", || {
            (listens(self.grpc) && listens(self.http)).then_some(())
        })
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Lets it write what it has, and stops it.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let ended = Command::new("kill")
            .arg(process.id().to_string())
            .status()?;
        if !ended.success() || !process.wait()?.success() {
            return Err(io::Error::other("the Collector does not end well"));
        }
        self.process = None;
        Ok(())
    }

    /// The spans that it has received.
    pub(crate) fn spans(&self) -> Vec<Got> {
        let mut spans = Vec::new();
        for batch in self.lines("traces.jsonl") {
            for of_resource in each(&batch, "resourceSpans") {
                for of_scope in each(of_resource, "scopeSpans") {
                    spans.extend(each(of_scope, "spans").iter().map(|span| Got {
                        resource: of_resource["resource"]["attributes"].clone(),
                        span: span.clone(),
                    }));
                }
            }
        }
        spans
    }

    /// The metrics that it has received.
    pub(crate) fn metrics(&self) -> Vec<Value> {
        let mut metrics = Vec::new();
        for batch in self.lines("metrics.jsonl") {
            for of_resource in each(&batch, "resourceMetrics") {
                for of_scope in each(of_resource, "scopeMetrics") {
                    metrics.extend(each(of_scope, "metrics").iter().cloned());
                }
            }
        }
        metrics
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        // The last line may be incomplete.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // A test that has failed need not report this failure.
        drop(self.stop());
    }
}

/// The value of an attribute in OTLP's JSON.
pub(crate) fn attribute<'a>(attributes: &'a Value, key: &str) -> Option<&'a Value> {
    let found = attributes
        .as_array()?
        .iter()
        .find(|pair| pair["key"] == key)?;
    found["value"].as_object()?.values().next()
}

fn each<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Repeats `condition` until it returns a value.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = condition() {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other(format!(
                "after a minute it is not true that {what}"
            )));
        }
        sleep(Duration::from_millis(20));
    }
}

/// A free port.
pub(crate) fn free() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
