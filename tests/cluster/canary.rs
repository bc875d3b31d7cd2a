//! A canary on a real cluster, installed as an operator installs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::harness::{self, Cluster, NFTABLES, wait_until};

/// Specs that are refused, and the sentence that says why.
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
        "{routes: []}",
        "routes must name at least one route, such as cluster-ip",
    ),
    ("{ipFamilies: [IPv5]}", "spec.ipFamilies"),
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![harness::on(
        NFTABLES,
        "a canary finds a fault, tells its end, and leaves nothing",
        |cluster| {
            let canary = Canary::install(cluster)?;
            canary.refuses()?;
            canary.is_quiet_while_all_is_well()?;
            canary.tells_the_founding_fault_and_its_end()?;
            canary.survives_its_leader()?;
            canary.leaves_nothing()
        },
    )]
}

/// A canary, until it is dropped.
struct Canary<'a> {
    cluster: &'a Arc<Cluster>,
}

impl<'a> Canary<'a> {
    fn install(cluster: &'a Arc<Cluster>) -> Result<Self, Failed> {
        let checkout = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let made = Command::new(checkout.join("scripts/image")).output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
        }
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| checkout.join("target"), PathBuf::from);
        for image in ["prober-agent", "prober-controller"] {
            cluster.import(&target.join(format!("image/{image}.tar")))?;
        }
        let canary = Self { cluster };
        cluster.kubectl(&["apply", "-k", &file("kustomize/default")])?;
        let established = "--for=condition=Established";
        let crd = "crd/connectivitychecks.prober.dev";
        cluster.kubectl(&["wait", established, "--timeout=60s", crd])?;
        Ok(canary)
    }

    /// What no canary could do is refused, each with its sentence.
    fn refuses(&self) -> Result<(), Failed> {
        for (spec, sentence) in REFUSED {
            let check = format!(
                "{{apiVersion: prober.dev/v1alpha1, kind: ConnectivityCheck, metadata: {{name: bad}}, spec: {spec}}}"
            );
            match self.cluster.apply(&check) {
                Ok(()) => return Err(format!("{spec} was admitted").into()),
                Err(refusal) => {
                    let said = refusal.message().unwrap_or_default();
                    if !said.contains(sentence) {
                        return Err(format!("{spec}: {said}").into());
                    }
                }
            }
        }
        Ok(())
    }

    fn is_quiet_while_all_is_well(&self) -> Result<(), Failed> {
        let example = file("examples/connectivitycheck.yaml");
        self.cluster.kubectl(&["apply", "-f", &example])?;
        self.wait_for(
            "the check is healthy",
            &[("Healthy", "True"), ("Ready", "True")],
        )?;
        wait_until("every pair is covered", || {
            Ok(self.ask("{.status.coverage.share}")? == "4/4")
        })?;
        let events = self.events()?;
        if events.is_empty() {
            return Ok(());
        }
        Err(format!("something is told while nothing is wrong: {events}").into())
    }

    fn tells_the_founding_fault_and_its_end(&self) -> Result<(), Failed> {
        let fault = self.cluster.inject("bridge-netfilter-off", "node-1", "")?;
        self.wait_for("the check fails", &[("Healthy", "False")])?;
        let headline = self.ask("{.status.headline}")?;
        let failing = self.ask("{.status.failing[*].node}")?;
        if headline != "node-1: bridge-netfilter-off (proven)" || failing != "node-1" {
            return Err(format!("it says '{headline}' of {failing}").into());
        }
        wait_until("the node has an Event", || {
            Ok(self
                .events()?
                .contains("Node node-1 ConnectivityLost node-1: bridge-netfilter-off"))
        })?;
        fault.heal()?;
        self.wait_for("the check is healthy again", &[("Healthy", "True")])?;
        let end = self.ask("{.status.outages[0].end}")?;
        let outages = self.ask("{.status.outages[*].cause}")?;
        if end.is_empty() || outages != "bridge-netfilter-off" {
            return Err(format!("outages {outages}, the first ended {end}").into());
        }
        wait_until("the end has an Event", || {
            Ok(self.events()?.contains("ConnectivityRestored"))
        })
    }

    /// The leader is killed while a node is broken: the outage goes on, is told once, and no agent is left over.
    fn survives_its_leader(&self) -> Result<(), Failed> {
        let fault = self.cluster.inject("bridge-netfilter-off", "node-2", "")?;
        self.wait_for("the check fails", &[("Healthy", "False")])?;
        let since = self.ask("{.status.failing[0].since}")?;
        let holder = self.holder()?;
        let pod = holder.split('_').next().unwrap_or_default();
        self.cluster.kubectl(&[
            "delete",
            "pod",
            "-n",
            "prober-system",
            pod,
            "--force",
            "--grace-period=0",
        ])?;
        wait_until("another one leads", || {
            let now = self.holder()?;
            Ok(!now.is_empty() && now != holder)
        })?;
        wait_until("its agents are the only ones", || {
            let jobs = self.jobs()?;
            Ok(jobs.lines().count() == 1)
        })?;
        if self.ask("{.status.failing[0].since}")? != since {
            return Err("the outage began anew".into());
        }
        fault.heal()?;
        self.wait_for("the check is healthy again", &[("Healthy", "True")])
    }

    fn leaves_nothing(&self) -> Result<(), Failed> {
        self.cluster
            .kubectl(&["delete", "cc", "default", "--wait=true"])?;
        wait_until("no agent is left", || {
            let left = (self.cluster).objects("app.kubernetes.io/name=prober-agent")?;
            Ok(left.is_empty())
        })?;
        (self.cluster).kubectl(&["delete", "-k", &file("kustomize/default")])?;
        wait_until("nothing is left", || {
            let names = "namespaces,clusterroles,clusterrolebindings,crds";
            let found = self.cluster.kubectl(&["get", names, "-o", "name"])?;
            Ok(!found.contains("prober"))
        })
    }

    /// One thing of the check.
    fn ask(&self, path: &str) -> Result<String, Failed> {
        (self.cluster).kubectl(&["get", "cc", "default", "-o", &format!("jsonpath={path}")])
    }

    fn wait_for(&self, what: &str, conditions: &[(&str, &str)]) -> Result<(), Failed> {
        wait_until(what, || {
            for (condition, word) in conditions {
                let path = format!("{{.status.conditions[?(@.type==\"{condition}\")].status}}");
                if self.ask(&path)? != *word {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Every Event that a canary has reported, one a line.
    fn events(&self) -> Result<String, Failed> {
        let line = "{range .items[?(@.reportingController==\"prober.dev/prober-controller\")]}{.regarding.kind} \
                    {.regarding.name} {.reason} {.note}{\"\\n\"}{end}";
        let (kind, form) = ("events.events.k8s.io", format!("jsonpath={line}"));
        (self.cluster).kubectl(&["get", kind, "-n", "default", "-o", &form])
    }

    fn holder(&self) -> Result<String, Failed> {
        let path = "jsonpath={.spec.holderIdentity}";
        let lease = "lease/prober-controller";
        (self.cluster).kubectl(&["get", lease, "-n", "prober-system", "-o", path])
    }

    fn jobs(&self) -> Result<String, Failed> {
        (self.cluster).kubectl(&["get", "jobs", "-n", "prober-system", "-o", "name"])
    }
}

impl Drop for Canary<'_> {
    fn drop(&mut self) {
        let installed = file("kustomize/default");
        let left = [
            "delete",
            "-k",
            &installed,
            "--ignore-not-found",
            "--wait=false",
        ];
        if let Err(failed) = self.cluster.kubectl(&left) {
            eprintln!("the canary stays: {}", failed.message().unwrap_or_default());
        }
    }
}

/// A file of the deployment.
fn file(name: &str) -> String {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    deploy.join(name).display().to_string()
}
