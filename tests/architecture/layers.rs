//! Which crate of the workspace may depend on which, checked against cargo's own metadata.

use serde::Deserialize;

/// A crate, and the crates of the workspace that its product code may depend on.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "prober",
        &["prober-core", "prober-agent", "prober-lab", "controller"],
    ),
    ("controller", &["prober-core"]),
    ("prober-lab", &["prober-core"]),
    ("prober-agent", &["prober-core", "prober-net"]),
    ("prober-net", &["prober-core"]),
    ("prober-core", &[]),
    (
        "prober-tests",
        &[
            "prober-core",
            "prober-net",
            "prober-agent",
            "prober-lab",
            "controller",
            "prober",
        ],
    ),
];

/// The dependencies of the core: crates without I/O.
const CORE_DEPENDENCIES: &[&str] = &[
    "base64",
    "hdrhistogram",
    // Prefixes of routes and of allowed targets; no I/O.
    "ipnet",
    "maud",
    "pcap-file",
    "pnet_packet",
    "serde",
    "serde_json",
    "sha2",
    "siphasher",
    "strsim",
    "textwrap",
    "thiserror",
];

/// The output of `cargo metadata --no-deps`.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    /// Its members.
    pub(crate) packages: Vec<Package>,
    /// Its folder, absolute.
    pub(crate) workspace_root: String,
}

/// One crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// The dependencies in its manifest.
    pub(crate) dependencies: Vec<Dependency>,
    /// Its library, binaries, tests and benchmarks.
    pub(crate) targets: Vec<Target>,
}

/// One dependency.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The name of the crate.
    pub(crate) name: String,
    /// `None` for a dependency of product code, else "dev" or "build".
    pub(crate) kind: Option<String>,
}

/// One build target of a crate.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    /// Its root file, absolute.
    pub(crate) src_path: String,
}

/// Every dependency that is not in the tables, one line each.
pub(crate) fn violations(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
            found.push(format!(
                "{}: add it to LAYERS in tests/architecture/layers.rs",
                package.name
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.is_none())
        {
            let name = dependency.name.as_str();
            let is_member = LAYERS.iter().any(|(member, _)| *member == name);
            if is_member && !allowed.contains(&name) {
                found.push(format!("{}: may not depend on {name}", package.name));
            }
            if package.name == "prober-core" && !is_member && !CORE_DEPENDENCIES.contains(&name) {
                found.push(format!(
                    "prober-core: {name} is not among CORE_DEPENDENCIES in tests/architecture/layers.rs"
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        Package {
            name: name.to_owned(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency {
                    name: (*name).to_owned(),
                    kind: kind.map(str::to_owned),
                })
                .collect(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn a_crate_may_depend_on_lower_layers() {
        let agent = package(
            "prober-agent",
            &[("prober-net", None), ("prober-core", None), ("tokio", None)],
        );
        assert_eq!(violations(&[agent]), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_on_a_higher_or_equal_layer_is_found() {
        assert_eq!(
            violations(&[package("prober-core", &[("prober-net", None)])]).len(),
            1
        );
        assert_eq!(
            violations(&[package("prober-lab", &[("prober-agent", None)])]).len(),
            1
        );
    }

    #[test]
    fn the_core_depends_on_no_runtime() {
        assert_eq!(
            violations(&[package("prober-core", &[("tokio", None)])]).len(),
            1
        );
        assert_eq!(
            violations(&[package("prober-core", &[("proptest", Some("dev"))])]).len(),
            0
        );
    }

    #[test]
    fn a_new_crate_needs_a_layer() {
        assert_eq!(violations(&[package("prober-new", &[])]).len(), 1);
    }
}
