//! Checks the faults of the test cluster without prober: their effect on TCP connections, and that healing removes them completely.

use libtest_mimic::{Failed, Trial};

use crate::harness::{self, Cluster, NFTABLES, Shape, USUAL, wait_until};

/// The effect of a fault on the connections from the client and the server of its node.
struct Row {
    fault: &'static str,
    node: &'static str,
    target: &'static str,
    fails: &'static [&'static str],
}

const ROWS: &[Row] = &[
    Row {
        fault: "bridge-netfilter-off",
        node: "node-1",
        target: "",
        fails: &[
            "cluster-ip local ipv4 timeout",
            "cluster-ip node-1 ipv4 timeout",
        ],
    },
    Row {
        fault: "bridge-netfilter-off-v6",
        node: "node-1",
        target: "",
        fails: &[
            "cluster-ip local ipv6 timeout",
            "cluster-ip node-1 ipv6 timeout",
        ],
    },
    Row {
        fault: "hairpin-off",
        node: "node-2",
        target: "",
        fails: &["hairpin node-2 ipv4 timeout", "hairpin node-2 ipv6 timeout"],
    },
    Row {
        fault: "missing-masquerade",
        node: "node-1",
        target: "",
        fails: &["hairpin node-1 ipv4 timeout", "hairpin node-1 ipv6 timeout"],
    },
    Row {
        fault: "policy-reject-icmp",
        node: "node-1",
        target: "boxes/server-node-1",
        fails: &[
            "cluster-ip local ipv4 unreachable",
            "cluster-ip local ipv6 prohibited",
            "cluster-ip node-1 ipv4 unreachable",
            "cluster-ip node-1 ipv6 prohibited",
            "hairpin node-1 ipv4 unreachable",
            "hairpin node-1 ipv6 prohibited",
            "pod-ip node-1 ipv4 unreachable",
            "pod-ip node-1 ipv6 prohibited",
        ],
    },
    Row {
        fault: "endpoint-frozen",
        node: "node-2",
        target: "boxes/server-node-2",
        fails: &[
            "cluster-ip local ipv4 silent",
            "cluster-ip local ipv6 silent",
            "cluster-ip node-2 ipv4 silent",
            "cluster-ip node-2 ipv6 silent",
            "hairpin node-2 ipv4 silent",
            "hairpin node-2 ipv6 silent",
            "pod-ip node-2 ipv4 silent",
            "pod-ip node-2 ipv6 silent",
        ],
    },
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = ROWS.iter().map(|row| row.trial(USUAL)).collect();
    // Faults whose effect could depend on the mode of kube-proxy.
    let mode_dependent = ROWS
        .iter()
        .filter(|row| ["bridge-netfilter-off", "missing-masquerade"].contains(&row.fault));
    trials.extend(mode_dependent.map(|row| row.trial(NFTABLES)));
    trials.push(harness::on(
        USUAL,
        "every fault is healed completely",
        |cluster| heal_completely(cluster, |_| true),
    ));
    trials.push(harness::on(
        NFTABLES,
        "every fault of the Services' rules is healed completely",
        |cluster| {
            heal_completely(cluster, |fault| {
                fault.starts_with("service-") || fault == "missing-masquerade"
            })
        },
    ));
    trials
}

impl Row {
    fn trial(&'static self, shape: Shape) -> Trial {
        let name = format!("{} on {} has the expected effect", self.fault, self.node);
        harness::on(shape, name, |cluster| self.check(cluster))
    }

    fn check(&self, cluster: &Cluster) -> Result<(), Failed> {
        let test_pods = cluster.test_pods()?;
        test_pods.fail_only(cluster, self.node, &[])?;
        let injected = cluster.inject(self.fault, self.node, self.target)?;
        test_pods.fail_only(cluster, self.node, self.fails)?;
        injected.heal()?;
        test_pods.fail_only(cluster, self.node, &[])
    }
}

/// Prints the settings of a node that faults change.
const SETTINGS: &str = "
iptables-save | grep -v '^[*]\\|^COMMIT\\| ACCEPT \\['; ip6tables-save | grep -v '^[*]\\|^COMMIT\\| ACCEPT \\['
nft list table ip kube-proxy 2>/dev/null; nft list table ip6 kube-proxy 2>/dev/null
ip route; ip -6 route; ip -o -6 address show scope global | cut -d' ' -f2-7; ip neigh show nud permanent | sort; bridge fdb | grep ' dst ' | sort
for dev in $(ls /sys/class/net); do ip -o link show $dev; ethtool -k $dev | grep segmentation-offload:; done
grep . /sys/class/net/*/brif/*/hairpin_mode
sysctl net.ipv4.ip_forward net.ipv4.conf.all.rp_filter net.ipv6.conf.all.forwarding net.bridge
for program in PLACE/*.pid; do echo $program; grep State /proc/$(cat $program)/status; done
true
";

/// Injects and heals each fault whose name is included, and compares the settings before and after.
pub(crate) fn heal_completely(
    cluster: &Cluster,
    is_included: impl Fn(&str) -> bool,
) -> Result<(), Failed> {
    let test_pods = cluster.test_pods()?;
    let healthy = |cluster: &Cluster| {
        cluster
            .nodes()
            .try_for_each(|node| test_pods.fail_only(cluster, &node, &[]))
    };
    healthy(cluster)?;
    let before = settings(cluster)?;
    for fault in cluster.faults()? {
        if !is_included(&fault.name) {
            continue;
        }
        let target = if fault.description.contains("NAMESPACE/POD") {
            "boxes/server-node-1"
        } else if fault.description.contains("NAMESPACE/SERVICE:PORT") {
            "boxes/node-1:probe"
        } else if fault.description.contains("NAMESPACE/SLICE") {
            "boxes/by-hand"
        } else if fault.description.contains("target: NAMESPACE)") {
            "boxes"
        } else {
            ""
        };
        cluster.inject(&fault.name, "node-1", target)?.heal()?;
        let mut after = Vec::new();
        wait_until("the settings are as before", || {
            after = settings(cluster)?;
            Ok(after == before)
        })
        .map_err(|_| format!("{} changed {}", fault.name, changes(&before, &after)))?;
    }
    healthy(cluster)
}

/// The settings of every node, without counters and without entries that the kernel changes by itself.
fn settings(cluster: &Cluster) -> Result<Vec<String>, Failed> {
    let mut all = Vec::new();
    for node in cluster.nodes() {
        let script = SETTINGS.replace("PLACE", &cluster.logs_of(&node).display().to_string());
        let output = cluster.on_node(&node, &["sh", "-c", &script])?;
        let lines = output.lines().filter(|line| !line.starts_with('#'));
        // nft prints the elements of a set in any order, several on a line.
        let entries =
            lines.flat_map(|line| line.trim_start_matches("\t\telements = {").split(", "));
        let entries = entries.map(|entry| entry.trim_matches(['\t', ' ', ',', '}']));
        all.extend(entries.map(|entry| format!("{node} {}", without_counters(entry))));
    }
    all.sort_unstable();
    let slice = [
        "get",
        "endpointslice",
        "-n",
        "boxes",
        "by-hand",
        "-o",
        "jsonpath={.endpoints}",
    ];
    all.push(cluster.kubectl(&slice)?);
    Ok(all)
}

/// A line without `[packets:bytes]`, `counter packets N bytes N` and the ends of the names of chains that have a new name each time
/// that they are written: kube-router's have a hash of the pod and of the time (`pkg/controllers/netpol/pod.go`).
fn without_counters(line: &str) -> String {
    let words = line.split(' ').filter(|word| !word.starts_with('['));
    let words = words.map(|word| {
        let renamed = ["KUBE-POD-FW-", "KUBE-NWPLCY-"];
        let kept = (renamed.iter()).find_map(|name| Some(word.find(name)? + name.len()));
        kept.and_then(|end| word.get(..end)).unwrap_or(word)
    });
    let mut kept: Vec<&str> = Vec::new();
    let mut skip = 0;
    for word in words {
        if word == "packets" || word == "bytes" {
            skip = 1;
        } else if skip > 0 {
            skip -= 1;
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// The lines that are only in one of the two lists.
fn changes(before: &[String], after: &[String]) -> String {
    let gone = before
        .iter()
        .filter(|line| !after.contains(line))
        .map(|line| format!("\n- {line}"));
    let new = after
        .iter()
        .filter(|line| !before.contains(line))
        .map(|line| format!("\n+ {line}"));
    gone.chain(new).collect()
}
