//! The values of arguments that describe a lab: its faults, its data plane and its kube-proxy.

use clap::builder::PossibleValue;
use prober_lab::data_plane::UnknownDataPlane;
use prober_lab::kube_proxy::{ProxyMode, UnknownProxyMode};
use prober_lab::topology::CountError;
use prober_lab::{DataPlane, Fault, FaultAt, FaultError, LabSpec};

use crate::values::NamedValue;

/// Returns the parser of a fault of the lab, with its node if one is given: `FAULT[@NODE]`.
pub(crate) fn fault() -> NamedValue<FaultAt> {
    NamedValue {
        parse: |text| text.parse().map_err(|error: FaultError| error.to_string()),
        names: || {
            let faults = Fault::ALL.iter();
            let value = |fault: &Fault| PossibleValue::new(fault.slug()).help(fault.summary());
            faults.map(value).collect()
        },
    }
}

/// Returns the parser of a data plane of the lab.
pub(crate) fn data_plane() -> NamedValue<DataPlane> {
    NamedValue {
        parse: |text| {
            text.parse()
                .map_err(|error: UnknownDataPlane| error.to_string())
        },
        names: || {
            let planes = DataPlane::ALL.iter();
            let value = |plane: &DataPlane| PossibleValue::new(plane.slug()).help(plane.summary());
            planes.map(value).collect()
        },
    }
}

/// Returns the parser of a mode of the lab's kube-proxy.
pub(crate) fn proxy_mode() -> NamedValue<ProxyMode> {
    NamedValue {
        parse: |text| {
            text.parse()
                .map_err(|error: UnknownProxyMode| error.to_string())
        },
        names: || {
            let modes = ProxyMode::ALL.iter();
            let value = |mode: &ProxyMode| PossibleValue::new(mode.slug()).help(mode.summary());
            modes.map(value).collect()
        },
    }
}

/// Returns the lab that the arguments of a command describe.
///
/// Fails if the lab cannot have as many nodes or servers.
pub(crate) fn lab_spec(
    nodes: Option<u8>,
    servers: u8,
    data_plane: Option<DataPlane>,
    proxy_mode: Option<ProxyMode>,
) -> Result<LabSpec, CountError> {
    let data_plane = data_plane.unwrap_or(DataPlane::BridgeVxlan);
    let nodes = nodes.unwrap_or(data_plane.default_nodes());
    Ok(LabSpec::new(nodes, servers)?
        .with_data_plane(data_plane)
        .with_proxy_mode(proxy_mode.unwrap_or(ProxyMode::Iptables)))
}
