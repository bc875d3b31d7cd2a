//! Healthy clusters of every profile.

use prober_core::diagnosis::diagnose;

use super::cluster::Cluster;
use super::profile::{ALL, Profile};
use super::run::run;
use super::verdict::described;

fn named(profile: &'static Profile, nodes: u8) -> Vec<String> {
    described(&diagnose(&run(&Cluster::dual(profile, nodes))))
}

#[test]
fn a_healthy_cluster_of_any_profile_and_size_names_nothing() {
    for profile in &ALL {
        for nodes in [1, 2, 3, 5] {
            let found = named(profile, nodes);
            assert!(
                found.is_empty(),
                "{} of {nodes} nodes: {found:?}",
                profile.name
            );
        }
    }
}
