//! Which crate of the house may name which: the floors, read from what cargo itself resolved.

use serde::Deserialize;

/// A crate and the crates of ours that its product code may name.
const FLOORS: &[(&str, &[&str])] = &[
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

/// All that the pure floor may be built from.
const CORE: &[&str] = &[
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
    "thiserror",
];

/// What `cargo metadata --no-deps` says of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    /// Its members.
    pub(crate) packages: Vec<Package>,
    /// Its folder.
    pub(crate) workspace_root: String,
}

/// One crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// As in its manifest.
    pub(crate) name: String,
    /// What it names in its manifest.
    pub(crate) dependencies: Vec<Dependency>,
    /// Its library, binaries, tests and benches.
    pub(crate) targets: Vec<Target>,
}

/// One line of a manifest's dependencies.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The crate that is named.
    pub(crate) name: String,
    /// `None` for what is shipped, else "dev" or "build".
    pub(crate) kind: Option<String>,
}

/// One thing that cargo builds from a crate.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    /// Its root file, absolute.
    pub(crate) src_path: String,
}

/// Every dependency that climbs a floor, one line each.
pub(crate) fn violations(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == package.name) else {
            found.push(format!(
                "{}: give it a floor in tests/architecture/floors.rs",
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
            let is_ours = FLOORS.iter().any(|(ours, _)| *ours == name);
            if is_ours && !allowed.contains(&name) {
                found.push(format!(
                    "{}: may not name {name}: it is not below",
                    package.name
                ));
            }
            if package.name == "prober-core" && !is_ours && !CORE.contains(&name) {
                found.push(format!(
                    "prober-core: {name} is not among the crates of the pure floor"
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
    fn a_crate_may_name_what_is_below_it() {
        let agent = package(
            "prober-agent",
            &[("prober-net", None), ("prober-core", None), ("tokio", None)],
        );
        assert_eq!(violations(&[agent]), Vec::<String>::new());
    }

    #[test]
    fn a_crate_that_names_what_is_above_or_beside_it_is_found() {
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
    fn the_pure_floor_names_no_runtime() {
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
    fn a_new_crate_must_be_given_a_floor() {
        assert_eq!(violations(&[package("prober-attic", &[])]).len(), 1);
    }
}
