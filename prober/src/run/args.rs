//! The arguments of `prober run`, and the checks of their combinations.

use std::num::NonZeroU8;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;
use prober_core::probe::tier::Tier;
use prober_core::run::RunSpec;
use prober_core::topology::{AccessPath, NodeName};

#[cfg(target_os = "linux")]
use super::lab_args::LabArgs;
use super::pod_args::PodArgs;
use crate::connect_args::ConnectArgs;
use crate::output::OutputArgs;
use crate::usage;
use crate::values::{Families, RunTierArg, access_path, duration};

/// The image of this version's agent, as `make image` names it.
pub(crate) const AGENT_IMAGE: &str = concat!("prober.dev/prober-agent:", env!("CARGO_PKG_VERSION"));

/// Probes every path and reports what is broken.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is placed in a cluster is removed again, also after Ctrl-C; after kill -9 the cluster \
    removes it after --timeout.\n\n\
    Exit status: 0 healthy, 1 a path fails, also where others could not be probed, 2 inconclusive, or could not run to \
    its end. After Ctrl-C the report shows what was measured until then, and the exit status is 1 if a path of it fails.\n\n\
    Examples:\n  \
    prober run --node ip-10-0-3-17\n  \
    prober run --all --context staging -n prober -o json > report.json\n  \
    prober run --all --report html=report.html --report junit=report.xml\n  \
    prober run --node ip-10-0-3-17 --require-tier T1 --pcapng failing.pcapng\n  \
    prober run --lab\n  \
    prober run --lab --fault bridge-netfilter-off@node-1\n  \
    prober run --lab --data-plane calico-like --family dual\n  \
    prober run --lab --nodes 3 --node node-2 --family dual -o json > report.json\n  \
    prober run --lab --fault packet-loss --probes 2000 --pcapng failing.pcapng"
)]
pub(crate) struct RunArgs {
    /// A node to probe; may be given several times [default: none; in the lab every node]
    #[arg(long = "node", value_name = "NODE", value_parser = node_name)]
    pub(crate) selected: Vec<String>,

    /// How many other nodes each node is paired with
    #[arg(long, value_name = "N", default_value_t = 3, env = "PROBER_PEERS")]
    pub(crate) peers: usize,

    /// How many servers, endpoints of the test Service, each node gets
    #[arg(long, value_name = "N", default_value = "1", env = "PROBER_SERVERS")]
    pub(crate) servers: NonZeroU8,

    /// The IP families to probe
    #[arg(long, value_enum, default_value = "auto", env = "PROBER_FAMILY")]
    pub(crate) family: Families,

    /// The access paths to probe, such as pod-ip,cluster-ip [default: all]
    ///
    /// Without node-port the test Service has no node ports; without host-network and with --tier T1 no pod is placed in the
    /// nodes' own network.
    #[arg(
        long,
        value_name = "PATH,...",
        value_delimiter = ',',
        value_parser = access_path(),
        env = "PROBER_ACCESS_PATHS"
    )]
    pub(crate) access_paths: Vec<AccessPath>,

    /// The time limit of the run, such as 90s; then it ends with what is measured, and exit status 2
    ///
    /// Agents that have not started after half of it have failed. Building the lab, checking the cluster and removing
    /// everything take their own time.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = duration, env = "PROBER_TIMEOUT")]
    pub(crate) timeout: Duration,

    /// When a probe without an answer has failed, such as 800ms or 3.5s
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration, env = "PROBER_PROBE_DEADLINE")]
    pub(crate) probe_deadline: Duration,

    /// How long after they are ready the paths of new pods may take to open, such as 30s: a closed one is probed for as long
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) wait_for_paths: Duration,

    /// Crafted probes per path
    #[arg(long, value_name = "N", default_value_t = 100, env = "PROBER_PROBES")]
    pub(crate) probes: u32,

    /// The most evidence to gather
    #[arg(long, value_enum, default_value = "T2", env = "PROBER_TIER")]
    pub(crate) tier: RunTierArg,

    /// The least evidence that the run needs: with less it does not start (exit status 2)
    #[arg(long, value_enum, value_name = "TIER")]
    pub(crate) require_tier: Option<RunTierArg>,

    /// Where the report goes
    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// In a cluster
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// In the lab
    #[cfg(target_os = "linux")]
    #[command(flatten)]
    pub(crate) lab: LabArgs,
}

/// What only a cluster takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// Probe every node of the cluster
    #[arg(long, conflicts_with = "selected")]
    pub(crate) all: bool,

    /// Probe every node with these labels, each paired with others of them, such as pool=web,!gpu
    #[arg(long, value_name = "LABELS", conflicts_with_all = ["selected", "all"])]
    pub(crate) node_selector: Option<String>,

    /// The cluster to connect to
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,

    /// The agent's image
    #[arg(long, value_name = "IMAGE", default_value = AGENT_IMAGE, env = "PROBER_IMAGE")]
    pub(crate) image: String,

    /// What the user chooses of the pods
    #[command(flatten)]
    pub(crate) pods: PodArgs,

    /// The ranges of all pods' addresses, where the cluster does not know them, such as 2600:1f14:e5e:f00::/56
    ///
    /// Agents probe no address outside of the run's Services, its nodes and these ranges. Without this flag the ranges are the
    /// podCIDRs of the nodes and those that are private; addresses of the run's own pods are always probed.
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = cidr, env = "PROBER_POD_CIDRS")]
    pub(crate) pod_cidrs: Vec<IpNet>,

    /// Whether node facts (sysctls, routes, filter rules) are read, by a pod in the node's own network
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub(crate) node_facts: NodeFactsArg,

    /// Leave everything in place at the end, to look at: until the timeout, or `prober clean`
    #[arg(long)]
    pub(crate) keep: bool,

    /// Say on standard error how many requests the API server got
    #[arg(long, hide = true)]
    pub(crate) count_requests: bool,
}

/// Whether node facts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NodeFactsArg {
    /// Where the namespace allows it; else causes that need it are at most consistent
    Auto,
    /// Never: the run is of tier T1 at most
    Never,
    /// Always: where the namespace refuses it the run does not start
    Always,
}

/// Where a run takes place.
#[derive(Debug)]
pub(crate) enum Environment {
    /// In a network of namespaces.
    #[cfg(target_os = "linux")]
    Lab,
    /// In a cluster.
    Cluster,
}

impl RunArgs {
    /// Returns the place of the run. Fails if the arguments name none.
    pub(crate) fn environment(&self) -> anyhow::Result<Environment> {
        #[cfg(target_os = "linux")]
        if self.lab.is_chosen()? {
            return Ok(Environment::Lab);
        }
        let is_chosen = self.cluster.all || self.cluster.node_selector.is_some();
        if self.selected.is_empty() && !is_chosen {
            return Err(usage::error(
                "nothing to probe: give --node NODE (once for each node; `kubectl get nodes` lists them), --all for \
                 every node of the cluster, --node-selector LABELS for some of them, or --lab for a network of \
                 namespaces on this machine",
            ));
        }
        Ok(Environment::Cluster)
    }

    /// Returns the run that these arguments describe on `nodes`, all of which are under test.
    ///
    /// `run` is its name; `nonce` is the number that its servers' banners carry.
    pub(crate) fn spec(&self, run: String, nonce: u64, nodes: Vec<NodeName>) -> RunSpec {
        let access_paths = match &self.access_paths[..] {
            [] => AccessPath::ALL.into(),
            chosen => chosen.iter().copied().collect(),
        };
        RunSpec {
            access_paths,
            peers: self.peers,
            servers_per_node: self.servers,
            raw_probes: self.probes,
            deadline: self.probe_deadline,
            missing_families: self.family.missing(),
            startup_timeout: self.timeout / 2,
            time_limit: Some(self.timeout),
            opening_patience: self.wait_for_paths,
            ..RunSpec::new(run, nonce, nodes)
        }
    }

    /// Returns the highest tier that the arguments allow.
    ///
    /// Fails if `--require-tier` is higher, or if `--node-facts always` needs a tier that `--tier` forbids.
    pub(crate) fn max_tier(&self) -> anyhow::Result<Tier> {
        let requested_tier = Tier::from(self.tier);
        let (most, because) = match self.cluster.node_facts {
            NodeFactsArg::Never if requested_tier > Tier::T1 => {
                (Tier::T1, "--node-facts never".to_owned())
            }
            NodeFactsArg::Always if requested_tier < Tier::T2 => {
                return Err(usage::error(format!(
                    "--node-facts always is evidence of tier T2, and --tier {requested_tier} forbids it: leave out one of them"
                )));
            }
            NodeFactsArg::Never | NodeFactsArg::Auto | NodeFactsArg::Always => {
                (requested_tier, format!("--tier {requested_tier}"))
            }
        };
        match self.require_tier.map(Tier::from) {
            Some(least) if least > most => Err(usage::error(format!(
                "--require-tier {least} requires more than {because} allows: leave out one of them"
            ))),
            Some(_) | None => Ok(most),
        }
    }
}

/// Parses a range of addresses, such as `10.244.0.0/16`.
fn cidr(text: &str) -> Result<IpNet, String> {
    let range: IpNet = text.parse().map_err(|_| {
        "expected a range of addresses, such as 10.244.0.0/16 or fd00:10::/56".to_owned()
    })?;
    // Any address of the Internet is no range of pods.
    if range.prefix_len() < 4 {
        return Err("a range of pods' addresses has a prefix of at least 4 bits".to_owned());
    }
    Ok(range.trunc())
}

/// Parses the name of a node: an RFC 1123 subdomain, as Kubernetes validates it.
fn node_name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte == b'-' || byte.is_ascii_digit() || byte.is_ascii_lowercase())
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err(
        "not the name of a node: it is made of a-z, 0-9, '-' and '.', as `kubectl get nodes` shows it"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn run(words: &[&str]) -> RunArgs {
        let words = [&["prober", "run"], words].concat();
        let command = Cli::try_parse_from(words)
            .expect("the words go together")
            .command;
        let Command::Run(args) = command else {
            panic!("{command:?} is no run")
        };
        args
    }

    fn refused(words: &[&str]) -> String {
        let words = [&["prober", "run"], words].concat();
        Cli::try_parse_from(words)
            .expect_err("the words contradict each other")
            .to_string()
    }

    #[test]
    fn a_run_without_an_environment_is_refused_with_the_choices() {
        let error = run(&[]).environment().unwrap_err().to_string();
        for word in ["--node", "--all", "--lab"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_run_is_in_the_lab_or_on_nodes_of_a_cluster() {
        for words in [["--all"].as_slice(), &["--node", "b", "--node", "a"]] {
            let environment = run(words).environment();
            assert!(matches!(environment, Ok(Environment::Cluster)), "{words:?}");
        }
        assert!(matches!(
            run(&["--lab"]).environment(),
            Ok(Environment::Lab)
        ));
        assert!(refused(&["--all", "--node", "a"]).contains("--node"));
    }

    #[test]
    fn what_only_a_cluster_takes_is_refused_in_the_lab() {
        for words in [
            ["--lab", "--all"].as_slice(),
            &["--lab", "--keep"],
            &["--lab", "--context", "c"],
            &["--lab", "-n", "prod"],
            &["--lab", "--kubeconfig", "f"],
            &["--lab", "--require-tier", "T1"],
        ] {
            assert!(refused(words).contains("cannot be used with"), "{words:?}");
        }
        for words in [["--data-plane", "macvlan"], ["--proxy", "nftables"]] {
            let [flag, value] = words;
            let error = run(&["--all", flag, value]).environment().unwrap_err();
            assert!(error.to_string().contains("--lab"), "{error}");
        }
        let broken = run(&["--all", "--fault", "packet-loss"]);
        assert!(
            broken
                .environment()
                .unwrap_err()
                .to_string()
                .contains("--lab")
        );
        assert!(refused(&["--node", "a", "--fault", "packet-loss"]).contains("--lab"));
    }

    #[test]
    fn access_paths_and_pod_ranges_are_lists() {
        let spec = |words: &[&str]| {
            run(words).spec("prober-k3x9q2".to_owned(), 7, vec![NodeName::new("a")])
        };
        assert_eq!(spec(&["--all"]).access_paths.len(), AccessPath::ALL.len());
        let chosen = spec(&["--lab", "--access-paths", "pod-ip,Cluster-IP"]).access_paths;
        assert_eq!(chosen, [AccessPath::PodIp, AccessPath::ClusterIp].into());
        let error = refused(&["--all", "--access-paths", "pod-ip,node-prot"]);
        assert!(error.contains("did you mean node-port?"), "{error}");

        let given = run(&["--all", "--pod-cidrs", "198.18.4.0/15,2600:1f14::/56"])
            .cluster
            .pod_cidrs;
        assert_eq!(
            given,
            ["198.18.0.0/15", "2600:1f14::/56"].map(|one| one.parse().unwrap())
        );
        for range in ["0.0.0.0/0", "10.0.0.0", "10.0.0.0/33"] {
            refused(&["--all", "--pod-cidrs", range]);
        }
        let labelled = run(&["--node-selector", "pool=web"]).environment();
        assert!(matches!(labelled, Ok(Environment::Cluster)));
    }

    #[test]
    fn an_invalid_node_name_is_refused_before_any_request() {
        for name in [
            "",
            "Node-1",
            "a/b",
            "-a",
            "a-",
            "a..b",
            "a_b",
            "a b",
            &"a".repeat(254),
        ] {
            assert!(node_name(name).is_err(), "{name}");
        }
        for name in ["a", "node-1", "ip-10-0-3-17.ec2.internal", "0"] {
            assert!(node_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_required_must_not_be_more_than_what_is_allowed() {
        for (words, most) in [
            (["--all"].as_slice(), Ok(Tier::T2)),
            (&["--all", "--node-facts", "never"], Ok(Tier::T1)),
            (
                &["--all", "--node-facts", "never", "--tier", "T0"],
                Ok(Tier::T0),
            ),
            (&["--all", "--require-tier", "T2"], Ok(Tier::T2)),
            (
                &["--all", "--require-tier", "T1", "--tier", "T1"],
                Ok(Tier::T1),
            ),
            (
                &["--all", "--require-tier", "T1", "--tier", "T0"],
                Err("--tier T0"),
            ),
            (
                &["--all", "--require-tier", "T2", "--node-facts", "never"],
                Err("--node-facts never"),
            ),
            (
                &["--all", "--node-facts", "always", "--tier", "T1"],
                Err("--tier T1"),
            ),
        ] {
            match (run(words).max_tier(), most) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{words:?}"),
                (Err(error), Err(word)) => {
                    assert!(error.to_string().contains(word), "{words:?}: {error}");
                }
                (found, expected) => panic!("{words:?}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
