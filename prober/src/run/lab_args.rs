//! The arguments of `prober run` that only the lab takes.

use prober_lab::kube_proxy::ProxyMode;
use prober_lab::topology::CountError;
use prober_lab::{DataPlane, FaultAt, LabSpec};

use crate::lab_values::{data_plane, fault, lab_spec, proxy_mode};
use crate::usage;

/// What only the lab takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Lab")]
pub(crate) struct LabArgs {
    /// Build a network of namespaces and probe that
    #[arg(
        long,
        conflicts_with_all = [
            "all", "node_selector", "pod_cidrs", "kubeconfig", "context", "namespace", "keep", "require_tier"
        ]
    )]
    pub(crate) lab: bool,

    /// How many nodes the lab has [default: 2, and 3 with cross-subnet]
    #[arg(long, value_name = "N", env = "PROBER_NODES")]
    pub(crate) nodes: Option<u8>,

    /// How pods are attached to nodes, and nodes to each other [default: bridge-vxlan]
    #[arg(long, value_name = "DATA-PLANE", value_parser = data_plane(), requires = "lab")]
    pub(crate) data_plane: Option<DataPlane>,

    /// How kube-proxy translates Services [default: iptables]
    #[arg(long = "proxy", value_name = "MODE", value_parser = proxy_mode(), requires = "lab")]
    pub(crate) proxy_mode: Option<ProxyMode>,

    /// Break the lab first; may be given several times (`prober lab faults` lists them)
    #[arg(
        long = "fault",
        value_name = "FAULT[@NODE]",
        value_parser = fault(),
        hide_possible_values = true,
        requires = "lab"
    )]
    pub(crate) faults: Vec<FaultAt>,
}

impl LabArgs {
    /// Whether the run is in the lab. Fails if flags of the lab are given without `--lab`.
    pub(crate) fn is_chosen(&self) -> anyhow::Result<bool> {
        if self.lab {
            return Ok(true);
        }
        // clap does not enforce that `--fault` requires `--lab` if `--all` is given, which conflicts with `--lab`.
        if !self.faults.is_empty() {
            return Err(usage::error(
                "--fault breaks the lab, never a cluster: give --lab as well",
            ));
        }
        if self.data_plane.is_some() || self.proxy_mode.is_some() {
            return Err(usage::error(
                "--data-plane and --proxy are those of the lab, never of a cluster: give --lab as well",
            ));
        }
        Ok(false)
    }

    /// Returns the lab that these arguments describe, with so many servers on each node. Fails if it cannot have as many nodes
    /// or servers.
    pub(crate) fn lab_spec(&self, servers: u8) -> Result<LabSpec, CountError> {
        lab_spec(self.nodes, servers, self.data_plane, self.proxy_mode)
    }
}
