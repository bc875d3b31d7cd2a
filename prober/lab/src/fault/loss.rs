//! Faults that lose some packets, all packets for some time, or the packets of new connections.

use super::filter::for_both_families;
use super::{FaultContext, Step};

/// The node drops matching packets that it forwards with this probability.
pub(super) fn random_loss(
    context: FaultContext<'_>,
    matching: &str,
    probability: &str,
) -> Vec<Step> {
    let script = for_both_families(|_| {
        format!(
            "-t mangle -A FORWARD {matching} -m statistic --mode random --probability {probability} -j DROP"
        )
    });
    vec![Step::on(context.node, script)]
}

/// The node forwards nothing for two seconds.
pub(super) fn outage(context: FaultContext<'_>) -> Vec<Step> {
    let begin =
        for_both_families(|_| "-I FORWARD 1 -m comment --comment outage -j DROP".to_owned());
    let end = for_both_families(|_| "-D FORWARD -m comment --comment outage -j DROP".to_owned())
        .replace('\n', "; ");
    vec![Step::on(
        context.node,
        format!("{begin}( sleep 2; {end}) >/dev/null 2>&1 &\n"),
    )]
}

/// The node's conntrack table is full: it holds as many entries as the machine's limit.
///
/// The limit is the same for all network namespaces and only writable in the initial one, but each namespace counts
/// its own entries. Entries that are not assured would be evicted in favour of new connections (`early_drop`,
/// `net/netfilter/nf_conntrack_core.c`).
pub(super) fn conntrack_full(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::on(
        context.node,
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
