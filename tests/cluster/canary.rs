//! A canary on a real cluster, installed from `deploy/kustomize` with its components once for all of these tests, each of
//! which leaves it without checks.

#[path = "canary/backends.rs"]
mod backends;
#[path = "canary/chart.rs"]
mod chart;
#[path = "canary/controllers.rs"]
mod controllers;
#[path = "canary/drain.rs"]
mod drain;
#[path = "canary/endurance.rs"]
mod endurance;
#[path = "canary/founding.rs"]
mod founding;
#[path = "canary/membership.rs"]
mod membership;
#[path = "canary/policy.rs"]
mod policy;
#[path = "canary/quiet.rs"]
mod quiet;
#[path = "canary/rights.rs"]
mod rights;
#[path = "canary/scale.rs"]
mod scale;
#[path = "canary/upgrade.rs"]
mod upgrade;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Failed, Trial};

use crate::harness::{self, Cluster, USUAL, wait_until};

/// Specs that are refused, and the message.
const REFUSED: &[(&str, &str)] = &[
    ("{interval: 0s}", "interval must be between 1s and 1h"),
    ("{interval: soon}", "spec.interval"),
    (
        "{interval: 1s, probeDeadline: 2s}",
        "probeDeadline must not be longer than interval: a probe would outlast its round",
    ),
    (
        "{confirm: {failures: 4, of: 3}}",
        "confirm.failures must not be more than confirm.of: it could never be reached",
    ),
    (
        "{accessPaths: []}",
        "accessPaths must name at least one access path, such as cluster-ip",
    ),
    ("{ipFamilies: [IPv5]}", "spec.ipFamilies"),
];

/// The namespace of everything but the Events.
const NAMESPACE: &str = "prober-system";

/// The installed canary.
static SHARED: Mutex<Option<Arc<Canary>>> = Mutex::new(None);

/// Those of every `make test`: a fault is reported, the leader has a successor, and nothing is left.
pub(crate) fn essential() -> Vec<Trial> {
    let mut trials = founding::essential();
    trials.extend(endurance::essential());
    trials.push(trial(
        "a canary that is removed leaves nothing, also with checks that are there",
        Canary::leaves_nothing,
    ));
    trials
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a canary refuses what it cannot do", Canary::refuses),
        trial(
            "a canary reports nothing while all is healthy",
            Canary::is_quiet_while_healthy,
        ),
    ];
    trials.extend(quiet::trials());
    trials.extend(founding::trials());
    trials.extend(endurance::trials());
    trials.extend(membership::trials());
    trials.extend(rights::trials());
    trials.extend(drain::trials());
    trials.extend(upgrade::trials());
    trials.extend(chart::trials());
    trials.extend(policy::trials());
    trials.extend(scale::trials());
    trials
}

/// A test of the canary, which the first test installs.
fn trial(name: &str, test: impl FnOnce(&Canary) -> Result<(), Failed> + Send + 'static) -> Trial {
    harness::on(USUAL, format!("canary: {name}"), |cluster| {
        let canary = Canary::shared(cluster)?;
        canary.reset()?;
        // The next test clears what a failure leaves.
        test(&canary)
    })
}

/// A canary in a cluster.
struct Canary {
    cluster: Arc<Cluster>,
    /// The program of the controllers that run beside the cluster.
    program: PathBuf,
}

impl Canary {
    fn shared(cluster: &Arc<Cluster>) -> Result<Arc<Self>, Failed> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(canary) = &*shared {
            return Ok(Arc::clone(canary));
        }
        let canary = Arc::new(Self::install(cluster)?);
        *shared = Some(Arc::clone(&canary));
        Ok(canary)
    }

    fn install(cluster: &Arc<Cluster>) -> Result<Self, Failed> {
        let checkout = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let made = Command::new(checkout.join("scripts/image")).output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
        }
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| checkout.join("target"), PathBuf::from);
        let folder = target.join("image");
        for image in ["prober-agent", "prober-controller"] {
            cluster.import(&folder.join(format!("{image}.tar")))?;
        }
        let canary = Self {
            cluster: Arc::clone(cluster),
            program: controllers::unpacked(&folder)?,
        };
        canary.apply_deployment()?;
        Ok(canary)
    }

    fn apply_deployment(&self) -> Result<(), Failed> {
        self.cluster.kubectl(&["apply", "-k", &installation()])?;
        let established = "--for=condition=Established";
        let crd = "crd/connectivitychecks.prober.dev";
        self.cluster
            .kubectl(&["wait", established, "--timeout=60s", crd])?;
        // Without a standing plan no agent has a reason not to be ready.
        let daemon_sets =
            ["client", "server", "node"].map(|name| format!("daemonset/prober-{name}"));
        for workload in daemon_sets
            .iter()
            .map(String::as_str)
            .chain(["deployment/prober-controller"])
        {
            let rollout = [
                "rollout",
                "status",
                workload,
                "-n",
                NAMESPACE,
                "--timeout=120s",
            ];
            self.cluster.kubectl(&rollout)?;
        }
        Ok(())
    }

    /// Restores two controllers and no check, whatever an earlier test left.
    fn reset(&self) -> Result<(), Failed> {
        let checks = ["delete", "cc", "--all", "--wait=true"];
        self.cluster.kubectl(&checks)?;
        self.scale(2)?;
        self.delete_events()?;
        wait_until("agents may not probe", || {
            let plan = self.standing_plan()?;
            Ok(plan.is_empty() || plan.contains("\"paused\":true"))
        })
    }

    /// Scales the Deployment, and waits until the number of pods is right.
    fn scale(&self, replicas: u8) -> Result<(), Failed> {
        let deployment = "deployment/prober-controller";
        let wanted = format!("--replicas={replicas}");
        self.cluster
            .kubectl(&["scale", deployment, "-n", NAMESPACE, &wanted])?;
        wait_until("the number of controllers is right", || {
            Ok(self.pods()?.len() == usize::from(replicas))
        })
    }

    /// The controllers' pods: name and address.
    fn pods(&self) -> Result<Vec<(String, String)>, Failed> {
        let pods = self.cluster.kubectl(&[
            "get",
            "pods",
            "-n",
            NAMESPACE,
            "-l",
            "app.kubernetes.io/name=prober-controller",
            "-o",
            "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}",
        ])?;
        let pods = pods.lines().filter_map(|line| line.split_once(' '));
        Ok(pods
            .map(|(name, address)| (name.to_owned(), address.to_owned()))
            .collect())
    }

    /// Invalid specs are refused, each with its message.
    fn refuses(&self) -> Result<(), Failed> {
        for (spec, sentence) in REFUSED {
            match self.check("bad", spec) {
                Ok(()) => return Err(format!("{spec} was admitted").into()),
                Err(refusal) => {
                    let message = refusal.message().unwrap_or_default();
                    if !message.contains(sentence) {
                        return Err(format!("{spec}: {message}").into());
                    }
                }
            }
        }
        Ok(())
    }

    fn is_quiet_while_healthy(&self) -> Result<(), Failed> {
        let example = file("examples/connectivitycheck.yaml");
        self.cluster.kubectl(&["apply", "-f", &example])?;
        self.measures("default", "3/3")?;
        let events = self.events()?;
        self.cluster
            .kubectl(&["delete", "cc", "default", "--wait=true"])?;
        if events.is_empty() {
            return Ok(());
        }
        Err(format!("events without a failure: {events}").into())
    }

    /// Applies a check.
    fn check(&self, name: &str, spec: &str) -> Result<(), Failed> {
        self.cluster.apply(&format!(
            "{{apiVersion: prober.dev/v1beta1, kind: ConnectivityCheck, metadata: {{name: {name}}}, spec: {spec}}}"
        ))
    }

    /// Deletes checks.
    fn delete_checks(&self, checks: &[&str]) -> Result<(), Failed> {
        let delete = ["delete", "cc", "--ignore-not-found", "--wait=true"];
        self.cluster.kubectl(&[&delete, checks].concat()).map(drop)
    }

    /// Waits until a check is healthy and measures this share of its nodes, such as `3/3`, all of which work.
    fn measures(&self, check: &str, share: &str) -> Result<(), Failed> {
        self.is_healthy(check)?;
        let fields = "{.status.coverage.share} {.status.nodes.alerting} {.status.nodes.starting}";
        wait_until(&format!("{share} nodes are measured, and work"), || {
            Ok(self.field_of(check, fields)? == format!("{share} 0 0"))
        })
    }

    fn is_healthy(&self, check: &str) -> Result<(), Failed> {
        self.wait_for(
            check,
            "the check is healthy",
            &[("Healthy", "True"), ("Ready", "True")],
        )
    }

    /// A field of the check `default`.
    fn field(&self, path: &str) -> Result<String, Failed> {
        self.field_of("default", path)
    }

    fn field_of(&self, check: &str, path: &str) -> Result<String, Failed> {
        (self.cluster).kubectl(&["get", "cc", check, "-o", &format!("jsonpath={path}")])
    }

    fn wait_for(&self, check: &str, what: &str, conditions: &[(&str, &str)]) -> Result<(), Failed> {
        wait_until(what, || {
            for (condition, word) in conditions {
                let path = format!("{{.status.conditions[?(@.type==\"{condition}\")].status}}");
                if self.field_of(check, &path)? != *word {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Every Event of a canary, one per line.
    fn events(&self) -> Result<String, Failed> {
        let line = "{range .items[?(@.reportingController==\"prober.dev/prober-controller\")]}{.regarding.kind} \
                    {.regarding.name} {.reason} {.note}{\"\\n\"}{end}";
        let (kind, form) = ("events.events.k8s.io", format!("jsonpath={line}"));
        (self.cluster).kubectl(&["get", kind, "-n", "default", "-o", &form])
    }

    /// Deletes the Events of earlier tests.
    fn delete_events(&self) -> Result<(), Failed> {
        let all = ["delete", "events.events.k8s.io", "-n", "default", "--all"];
        self.cluster.kubectl(&all).map(drop)
    }

    /// The number of Events that begin with these words, such as `Node node-1 ConnectivityLost`.
    fn count_events(&self, what: &str) -> Result<usize, Failed> {
        let events = self.events()?;
        Ok(events.lines().filter(|line| line.starts_with(what)).count())
    }

    fn holder(&self) -> Result<String, Failed> {
        let path = "jsonpath={.spec.holderIdentity}";
        let lease = "lease/prober-controller";
        (self.cluster).kubectl(&["get", lease, "-n", NAMESPACE, "-o", path])
    }

    /// The time in the API server's format, which sorts as text.
    fn now(&self) -> Result<String, Failed> {
        let mut date = self.cluster.command("date");
        let message = date.args(["-u", "+%Y-%m-%dT%H:%M:%S.%6NZ"]).output()?;
        Ok(String::from_utf8_lossy(&message.stdout).trim().to_owned())
    }

    fn leaves_nothing(&self) -> Result<(), Failed> {
        self.check("default", "{interval: 2s}")?;
        self.is_healthy("default")?;
        self.cluster
            .kubectl(&["delete", "-k", &installation(), "--wait=true"])?;
        // A later test installs it again.
        *SHARED.lock().unwrap_or_else(PoisonError::into_inner) = None;
        wait_until("nothing is left", || {
            let names = "namespaces,clusterroles,clusterrolebindings,crds,validatingadmissionpolicies,\
                         validatingadmissionpolicybindings";
            let found = self.cluster.kubectl(&["get", names, "-o", "name"])?;
            let agents = (self.cluster).objects("app.kubernetes.io/name=prober-agent")?;
            let roles = ["get", "roles,rolebindings,leases", "-A", "-o", "name"];
            let roles = self.cluster.kubectl(&roles)?;
            Ok(!found.contains("prober") && agents.is_empty() && !roles.contains("prober"))
        })
    }
}

/// A file of the deployment.
fn file(name: &str) -> String {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    deploy.join(name).display().to_string()
}

/// The folder of what these tests install.
fn installation() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/canary/all");
    folder.display().to_string()
}
