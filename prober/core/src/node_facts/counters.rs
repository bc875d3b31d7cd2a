//! Counters of the kernel by name, read before and after the probes of a plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counters of one network namespace, by name.
///
/// A name is the section and the field of `/proc/net/snmp` and `/proc/net/netstat` written together, as `nstat` does
/// (`TcpOutRsts`, `TcpExtListenOverflows`, `IpExtInNoRoutes`), the name itself for `/proc/net/snmp6`
/// (`Icmp6OutRedirects`), and `Conntrack` with the column of `/proc/net/stat/nf_conntrack` summed over all processors
/// (`ConntrackDrop`, `ConntrackInsertFailed`, `ConntrackInvalid`). A missing name was not read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counters(pub BTreeMap<String, u64>);

impl Counters {
    /// The value of one counter; `None` where it was not read.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// How much each counter grew from `before` to `after`.
    ///
    /// Leaves out names that only one side has, and counters that decreased: they were reset in between (another namespace,
    /// a reloaded module).
    pub fn delta(before: &Self, after: &Self) -> Self {
        let grown = |(name, now): (&String, &u64)| {
            Some((name.clone(), now.checked_sub(before.get(name)?)?))
        };
        Self(after.0.iter().filter_map(grown).collect())
    }
}

impl FromIterator<(String, u64)> for Counters {
    fn from_iter<I: IntoIterator<Item = (String, u64)>>(counters: I) -> Self {
        Self(counters.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(list: &[(&str, u64)]) -> Counters {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    #[test]
    fn a_delta_has_only_the_counters_of_both_reads() {
        let before = counters(&[("TcpOutRsts", 3), ("TcpExtListenDrops", 9), ("gone", 1)]);
        let after = counters(&[("TcpOutRsts", 8), ("TcpExtListenDrops", 2), ("new", 1)]);
        assert_eq!(
            Counters::delta(&before, &after),
            counters(&[("TcpOutRsts", 5)])
        );
    }
}
