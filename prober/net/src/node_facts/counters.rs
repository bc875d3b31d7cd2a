//! The kernel's counter files, as text: `snmp`, `netstat`, `snmp6` and `stat/nf_conntrack`.
use prober_core::node_facts::Counters;

/// Reads one counter file.
type Parse = fn(&str) -> Counters;

/// The files below `/proc/thread-self/net`, and how each is read.
pub(super) const FILES: [(&str, Parse); 4] = [
    ("snmp", pairs_of_lines),
    ("netstat", pairs_of_lines),
    ("snmp6", one_a_line),
    ("stat/nf_conntrack", conntrack),
];

/// The counters that are kept: those that some cause moves, or that distinguish similar causes.
const KEPT: [&str; 62] = [
    "IpInReceives",
    "IpInHdrErrors",
    "IpInAddrErrors",
    "IpForwDatagrams",
    "IpInDiscards",
    "IpInDelivers",
    "IpOutRequests",
    "IpOutDiscards",
    "IpOutNoRoutes",
    "IpReasmFails",
    "IpFragOKs",
    "IpFragFails",
    "IpExtInNoRoutes",
    "IpExtInTruncatedPkts",
    "IpExtInCsumErrors",
    "IcmpInErrors",
    "IcmpInCsumErrors",
    "IcmpInDestUnreachs",
    "IcmpInTimeExcds",
    "IcmpInRedirects",
    "IcmpOutDestUnreachs",
    "IcmpOutTimeExcds",
    "IcmpOutRedirects",
    "IcmpOutRateLimitGlobal",
    "IcmpOutRateLimitHost",
    "TcpActiveOpens",
    "TcpPassiveOpens",
    "TcpAttemptFails",
    "TcpEstabResets",
    "TcpRetransSegs",
    "TcpOutRsts",
    "TcpInErrs",
    "TcpInCsumErrors",
    "TcpExtEmbryonicRsts",
    "TcpExtListenOverflows",
    "TcpExtListenDrops",
    "TcpExtTCPSynRetrans",
    "TcpExtTCPTimeouts",
    "TcpExtTCPLossProbes",
    "TcpExtTCPSYNChallenge",
    "TcpExtTCPMinTTLDrop",
    "TcpExtTCPReqQFullDrop",
    "TcpExtTCPReqQFullDoCookies",
    "TcpExtSyncookiesSent",
    "TcpExtIPReversePathFilter",
    "TcpExtTCPAbortOnTimeout",
    "UdpInErrors",
    "UdpInCsumErrors",
    "UdpNoPorts",
    "UdpInDatagrams",
    "UdpOutDatagrams",
    "Ip6InHdrErrors",
    "Ip6InAddrErrors",
    "Ip6InNoRoutes",
    "Ip6OutNoRoutes",
    "Ip6OutDiscards",
    "Ip6FragFails",
    "Icmp6InDestUnreachs",
    "Icmp6InRedirects",
    "Icmp6OutDestUnreachs",
    "Icmp6OutRedirects",
    "Icmp6OutTimeExcds",
];

fn keep(name: String, value: &str) -> Option<(String, u64)> {
    KEPT.contains(&name.as_str()).then_some(())?;
    // Some fields are signed (`TcpMaxConn -1`); none of the kept ones is ever negative.
    Some((name, value.parse().ok()?))
}

/// `snmp` and `netstat`: a line of names and a line of values, each with its section in front.
fn pairs_of_lines(text: &str) -> Counters {
    let mut all = Counters::default();
    let mut lines = text.lines();
    while let Some((names, values)) = lines.next().zip(lines.next()) {
        let Some(((section, names), (same, values))) =
            names.split_once(':').zip(values.split_once(':'))
        else {
            continue;
        };
        if section == same {
            let fields = names.split_whitespace().zip(values.split_whitespace());
            all.0
                .extend(fields.filter_map(|(name, value)| keep(format!("{section}{name}"), value)));
        }
    }
    all
}

/// `snmp6`: a name and a value a line.
fn one_a_line(text: &str) -> Counters {
    let fields = text
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace));
    fields
        .filter_map(|(name, value)| keep(name.to_owned(), value.trim()))
        .collect()
}

/// `stat/nf_conntrack`: a line of names, then a line of hexadecimal values for each processor. All columns but the first
/// are counters; the first is the number of entries of the table, the same on each line.
fn conntrack(text: &str) -> Counters {
    let mut lines = text.lines();
    let names: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(conntrack_name)
        .collect();
    let mut all = Counters::default();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_whitespace()).skip(1) {
            if let Ok(value) = u64::from_str_radix(value, 16) {
                *all.0.entry(name.clone()).or_default() += value;
            }
        }
    }
    all
}

/// `insert_failed` becomes `ConntrackInsertFailed`.
fn conntrack_name(column: &str) -> String {
    let words = column.split('_').map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase())
            .into_iter()
            .chain(letters)
            .collect::<String>()
    });
    std::iter::once("Conntrack".to_owned())
        .chain(words)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_names_the_counters_of_its_lines() {
        let text =
            "Ip: Forwarding InHdrErrors InAddrErrors\nIp: 1 2 5\nTcp: MaxConn OutRsts\nTcp: -1 7\n";
        let counters = pairs_of_lines(text);
        assert_eq!(counters.get("IpInAddrErrors"), Some(5));
        assert_eq!(counters.get("TcpOutRsts"), Some(7));
        assert_eq!(
            (counters.get("IpForwarding"), counters.get("TcpMaxConn")),
            (None, None)
        );
    }

    #[test]
    fn conntrack_counters_are_hexadecimal_and_summed_over_processors() {
        let text = "entries  insert_failed drop\n00000009  00000010 0000000a\n00000009  00000001 00000001\n";
        let counters = conntrack(text);
        assert_eq!(counters.get("ConntrackInsertFailed"), Some(17));
        assert_eq!(counters.get("ConntrackDrop"), Some(11));
        assert_eq!(counters.get("ConntrackEntries"), None);
    }

    #[test]
    fn cut_files_give_what_they_hold() {
        let text = "Tcp: OutRsts InErrs\nTcp: 7";
        assert_eq!(pairs_of_lines(text).0.len(), 1);
        assert_eq!(pairs_of_lines("Tcp: OutRsts").0.len(), 0);
        assert_eq!(
            one_a_line("Icmp6OutRedirects   3\nIp6").get("Icmp6OutRedirects"),
            Some(3)
        );
        assert_eq!(conntrack("").0.len(), 0);
    }
}
