//! A cluster leaves no processes, mounts, cgroups or files, however it ends.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::harness::{Cluster, Shape, USUAL, wait_until};

/// The smallest cluster.
const SMALL: Shape = Shape { nodes: 1, ..USUAL };

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a cluster leaves nothing when bin/up is killed", || {
            let mut cluster = Cluster::start(name("killed"), SMALL)?;
            cluster.test_pods()?;
            let resources = Resources::of(&cluster)?;
            cluster.kill()?;
            resources.wait_until_gone()
        }),
        Trial::test(
            "a cluster leaves nothing when the input of bin/up ends",
            || {
                let cluster = Cluster::start(name("ended"), SMALL)?;
                cluster.test_pods()?;
                let resources = Resources::of(&cluster)?;
                drop(cluster);
                resources.wait_until_gone()
            },
        ),
    ]
}

fn name(test: &str) -> String {
    format!("test-{test}-{}", std::process::id())
}

/// The namespaces, mounts, cgroups and files of a cluster.
struct Resources {
    name: String,
    /// The PID, network and mount namespaces of its processes.
    namespaces: Vec<PathBuf>,
}

impl Resources {
    fn of(cluster: &Cluster) -> Result<Self, Failed> {
        let mut found = Self {
            name: cluster.name.clone(),
            namespaces: Vec::new(),
        };
        for process in descendants(cluster.pid()) {
            for kind in ["pid", "net", "mnt"] {
                let link = std::fs::read_link(format!("/proc/{process}/ns/{kind}"));
                let own = std::fs::read_link(format!("/proc/self/ns/{kind}"))?;
                if let Ok(namespace) = link
                    && namespace != own
                    && !found.namespaces.contains(&namespace)
                {
                    found.namespaces.push(namespace);
                }
            }
        }
        let left = found.left();
        // The cluster, a node, and two pods have at least network and mount namespaces.
        if found.namespaces.len() < 8 || left.len() < 8 {
            return Err(format!("too few resources of a running cluster: {left:#?}").into());
        }
        Ok(found)
    }

    /// The resources that exist: processes in its namespaces, mounts, cgroups and its folder.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for process in processes() {
            for kind in ["pid", "net", "mnt"] {
                let namespace = std::fs::read_link(format!("/proc/{process}/ns/{kind}"));
                if namespace.is_ok_and(|namespace| self.namespaces.contains(&namespace)) {
                    left.push(format!("process {process} by its {kind} namespace"));
                }
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = |text: &str| text.contains(&self.name);
        left.extend(
            mounts
                .lines()
                .filter(|line| ours(line))
                .map(|line| format!("mount {line}")),
        );
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let folders = hierarchies.map(|hierarchy| {
            hierarchy
                .path()
                .join(format!("prober-cluster-{}", self.name))
        });
        let state = PathBuf::from("/run/prober-cluster").join(&self.name);
        let folders = folders.chain([state]).filter(|folder| folder.exists());
        left.extend(folders.map(|folder| format!("folder {}", folder.display())));
        left
    }

    fn wait_until_gone(&self) -> Result<(), Failed> {
        wait_until("nothing of the cluster is left", || {
            Ok(self.left().is_empty())
        })
        .map_err(|_| format!("left of the cluster: {:#?}", self.left()).into())
    }
}

/// The PIDs of all processes of the machine.
fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

/// A process and its descendants.
fn descendants(of: u32) -> Vec<u32> {
    let mut found = vec![of];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let children = Command::new("pgrep")
            .args(["-P", &parent.to_string()])
            .output();
        let children =
            children.map(|children| String::from_utf8_lossy(&children.stdout).into_owned());
        found.extend(
            children
                .unwrap_or_default()
                .lines()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
        at += 1;
    }
    found
}
