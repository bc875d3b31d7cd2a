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

/// The node forwards no new connection for two seconds, after the first 200 of each family, so that every path has been answered.
pub(super) fn outage(context: FaultContext<'_>) -> Vec<Step> {
    let begin = for_both_families(|_| "-N OUTAGE".to_owned())
        + &for_both_families(|_| {
            "-A OUTAGE -m limit --limit 1/minute --limit-burst 200 -j RETURN".to_owned()
        })
        + &for_both_families(|_| format!("-A OUTAGE {COUNTED} -j DROP"))
        + &for_both_families(|_| "-I FORWARD 1 -p tcp --syn -j OUTAGE".to_owned());
    let end = for_both_families(|_| "-D FORWARD -p tcp --syn -j OUTAGE".to_owned())
        + &for_both_families(|_| "-F OUTAGE".to_owned())
        + &for_both_families(|_| "-X OUTAGE".to_owned());
    until_later(context, &begin, "-L OUTAGE", &end)
}

/// The node forwards nothing until some time after the first packet.
pub(super) fn late_policy(context: FaultContext<'_>) -> Vec<Step> {
    let begin = for_both_families(|_| format!("-I FORWARD 1 {COUNTED} -j DROP"));
    let end = for_both_families(|_| format!("-D FORWARD {COUNTED} -j DROP"));
    until_later(context, &begin, "-L FORWARD", &end)
}

/// Matches every packet; the counter of the rule shows the first one.
pub(super) const COUNTED: &str = "-m comment --comment late";

/// Runs `begin` on the node, and `end` in the background, as late as the fault lasts after a rule with [`COUNTED`] has met a packet. `list`
/// is the command of iptables that lists the chain of this rule. After half a minute without a packet it gives up.
pub(super) fn until_later(
    context: FaultContext<'_>,
    begin: &str,
    list: &str,
    end: &str,
) -> Vec<Step> {
    let count = for_both_families(|_| format!("-vnx {list}")).replace('\n', "; ");
    vec![Step::on(
        context.node,
        format!(
            "{begin}( for try in $(seq 600); do
  if {{ {count}}} | awk '/late/ && $1 > 0 {{ found = 1 }} END {{ exit !found }}'; then
    sleep {lasts}
    {end}    break
  fi
  sleep 0.05
done ) >/dev/null 2>&1 &
",
            lasts = context.lasts.as_secs_f64(),
            end = end.replace('\n', "\n    ").trim_end().to_owned() + "\n"
        ),
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
