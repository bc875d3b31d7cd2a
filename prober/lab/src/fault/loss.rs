//! Faults that lose packets now and then, or only new connections.

use super::filter::both;
use super::{Site, Step};

/// A share of what the node forwards is lost.
pub(super) fn random(site: Site<'_>, matching: &str, share: &str) -> Vec<Step> {
    let script = both(|_| {
        format!(
            "-t mangle -A FORWARD {matching} -m statistic --mode random --probability {share} -j DROP"
        )
    });
    vec![Step::on(site.node, script)]
}

/// Nothing is forwarded for two seconds.
pub(super) fn outage(site: Site<'_>) -> Vec<Step> {
    let begin = both(|_| "-I FORWARD 1 -m comment --comment outage -j DROP".to_owned());
    let end =
        both(|_| "-D FORWARD -m comment --comment outage -j DROP".to_owned()).replace('\n', "; ");
    vec![Step::on(
        site.node,
        format!("{begin}( sleep 2; {end}) >/dev/null 2>&1 &\n"),
    )]
}

/// Fills the node's connection table up to the machine's limit.
///
/// The limit is one for all namespaces and not the node's to change, but the count is each namespace's own. Entries
/// that are not assured would be evicted in favour of new connections (`early_drop`, `net/netfilter/nf_conntrack_core.c`).
pub(super) fn full_table(site: Site<'_>) -> Vec<Step> {
    vec![Step::on(
        site.node,
        "limit=$(cat /proc/sys/net/netfilter/nf_conntrack_max)
awk -v limit=\"$limit\" 'BEGIN {
  for (i = 0; i < limit + 4096; i++)
    printf \"-I -p udp -s 10.1.%d.%d -d 10.9.0.1 --sport %d --dport 53 -t 600 -u ASSURED,SEEN_REPLY\\n\", int(i / 250) % 250 + 1, i % 250 + 1, 1024 + int(i / 62500)
}' > /run/entries
conntrack -R /run/entries >/dev/null 2>&1 || true
rm /run/entries
count=$(cat /proc/sys/net/netfilter/nf_conntrack_count)
[ \"$count\" -ge $((limit - 64)) ] || { echo \"the table took only $count of $limit entries\" >&2; exit 1; }
",
    )]
}
