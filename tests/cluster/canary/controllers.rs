//! Controllers that run beside the cluster as its service account, each with a token of its own: they have the rights
//! of a pod, receive signals, and have separate entries in the API server's audit log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use libtest_mimic::Failed;

use super::{Canary, NAMESPACE};
use crate::harness::wait_until;

/// Extracts the program from the controller's image.
pub(super) fn unpacked(folder: &Path) -> Result<PathBuf, Failed> {
    let layer = Command::new("tar")
        .args(["--extract", "--to-stdout", "layer.tar", "--file"])
        .arg(folder.join("prober-controller.tar"))
        .stderr(Stdio::inherit())
        .output()?;
    let archive = folder.join("controller-layer.tar");
    fs::write(&archive, layer.stdout)?;
    let unpacked = Command::new("tar")
        .args(["--extract", "--file"])
        .arg(&archive)
        .arg("--directory")
        .arg(folder)
        .status()?;
    fs::remove_file(archive)?;
    if !unpacked.success() {
        return Err("the controller's image has no program".into());
    }
    Ok(folder.join("prober-controller"))
}

/// One controller.
pub(super) struct Controller<'a> {
    canary: &'a Canary,
    pub(super) name: String,
    process: Child,
    /// The credential id of its token in the audit log.
    credential: String,
    /// The address of its metrics.
    pub(super) address: String,
    _folder: tempfile::TempDir,
    log: PathBuf,
}

/// A request in the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// When it was received, in the log's format.
    pub(super) at: String,
    pub(super) verb: String,
    pub(super) group: String,
    /// With its subresource: `pods/log`.
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) code: u64,
}

/// The port of the next controller's metrics: nothing else listens in that network.
static PORT: AtomicU16 = AtomicU16::new(9_100);

impl Request {
    /// Whether it regards a single pod: its log, or its plan.
    pub(super) fn is_of_an_agent(&self) -> bool {
        !self.name.is_empty() && matches!(self.resource.as_str(), "pods" | "pods/log")
    }

    pub(super) fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

impl Canary {
    /// Starts a controller with these environment variables.
    pub(super) fn controller(
        &self,
        name: &str,
        variables: &[(&str, &str)],
    ) -> Result<Controller<'_>, Failed> {
        let folder = tempfile::tempdir()?;
        let token = self.token()?;
        let credential = self.credential(&token)?;
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, self.cluster.kubeconfig(&token)?)?;
        let log = folder.path().join("log");
        let address = format!("127.0.0.1:{}", PORT.fetch_add(1, Ordering::Relaxed));
        let process = (self.cluster)
            .command(&self.program)
            .args(["--namespace", NAMESPACE])
            .args(["--pod-name", name, "--metrics-address", &address])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        Ok(Controller {
            canary: self,
            name: name.to_owned(),
            process,
            credential,
            address,
            _folder: folder,
            log,
        })
    }

    /// Starts a controller without such variables.
    pub(super) fn plain(&self, name: &str) -> Result<Controller<'_>, Failed> {
        self.controller(name, &[])
    }

    /// A token of the controllers' service account.
    pub(super) fn token(&self) -> Result<String, Failed> {
        let account = ["create", "token", "prober-controller", "-n", NAMESPACE];
        let token = self.cluster.kubectl(&account)?;
        Ok(token.trim().to_owned())
    }

    fn credential(&self, token: &str) -> Result<String, Failed> {
        let path =
            "jsonpath={.status.userInfo.extra.authentication\\.kubernetes\\.io/credential-id[0]}";
        let token = format!("--token={token}");
        (self.cluster).kubectl(&[&token, "auth", "whoami", "-o", path])
    }

    /// Clears the Lease of a dead controller, so that the next need not wait until it expires.
    pub(super) fn free_the_lease(&self) -> Result<(), Failed> {
        let no_holder = r#"{"spec": {"holderIdentity": ""}}"#;
        let lease = "lease/prober-controller";
        self.cluster
            .kubectl(&[
                "patch",
                lease,
                "-n",
                NAMESPACE,
                "--type=merge",
                "-p",
                no_holder,
            ])
            .map(drop)
    }
}

impl Controller<'_> {
    /// Waits until it leads.
    pub(super) fn leads(&self) -> Result<(), Failed> {
        wait_until(&format!("{} leads", self.name), || {
            Ok(self
                .canary
                .holder()?
                .starts_with(&format!("{}_", self.name)))
        })
        .map_err(|failed| self.explained(&failed))
    }

    /// A failure, with the end of its log.
    pub(super) fn explained(&self, failed: &Failed) -> Failed {
        let log = self.log();
        let end: Vec<&str> = log.lines().rev().take(30).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        format!(
            "{}\n{} wrote:\n{}",
            failed.message().unwrap_or_default(),
            self.name,
            end.join("\n")
        )
        .into()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(super) fn signal(&self, signal: &str) -> Result<(), Failed> {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status()?;
        if sent.success() {
            return Ok(());
        }
        Err(format!("{} takes no signal {signal}", self.name).into())
    }

    /// Kills it by SIGKILL.
    pub(super) fn kill(&mut self) -> Result<(), Failed> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Waits until it has ended by itself.
    pub(super) fn ends(&mut self) -> Result<(), Failed> {
        let name = self.name.clone();
        wait_until(&format!("{name} ends"), || {
            Ok(self.process.try_wait()?.is_some())
        })
    }

    /// Stops it by SIGTERM, and waits.
    pub(super) fn end(&mut self) -> Result<(), Failed> {
        self.signal("-TERM")?;
        self.ends()
    }

    /// Its resident memory, MiB.
    pub(super) fn memory(&self) -> Result<u64, Failed> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        let kib: u64 = number.ok_or("no VmRSS")?.parse()?;
        Ok(kib / 1024)
    }

    /// Its metrics as text.
    pub(super) fn metrics(&self) -> Result<String, Failed> {
        let server = format!("--server=http://{}", self.address);
        (self.canary.cluster).kubectl(&[&server, "get", "--raw", "/metrics"])
    }

    /// Its requests so far, from the audit log.
    pub(super) fn requests(&self) -> Result<Vec<Request>, Failed> {
        let log = self.canary.cluster.audit()?;
        let mut requests = Vec::new();
        for line in log.lines().filter(|line| line.contains(&self.credential)) {
            // The last line may be incomplete.
            let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else {
                continue;
            };
            let of = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            let (resource, part) = (of(&object["resource"]), of(&object["subresource"]));
            let slash = if part.is_empty() { "" } else { "/" };
            requests.push(Request {
                at: of(&event["requestReceivedTimestamp"]),
                verb: of(&event["verb"]),
                group: of(&object["apiGroup"]),
                resource: format!("{resource}{slash}{part}"),
                namespace: of(&object["namespace"]),
                name: of(&object["name"]),
                code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
            });
        }
        Ok(requests)
    }
}

impl Drop for Controller<'_> {
    fn drop(&mut self) {
        // A test that failed leaves it running.
        drop(self.kill());
    }
}
