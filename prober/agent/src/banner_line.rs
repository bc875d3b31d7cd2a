//! The banner as its line.
use prober_core::observation::Banner;
use prober_core::topology::NodeName;

pub(crate) fn to_line(banner: &Banner) -> String {
    format!(
        "PROBER/1 nonce={:016x} pod={} node={} peer={}\n",
        banner.nonce, banner.pod, banner.node, banner.peer
    )
}

pub(crate) fn parse(line: &[u8]) -> Option<Banner> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line
        .strip_suffix('\n')?
        .strip_prefix("PROBER/1 ")?
        .split(' ');
    let mut word = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
    Some(Banner {
        nonce: u64::from_str_radix(word("nonce")?, 16).ok()?,
        pod: word("pod")?.to_owned(),
        node: NodeName::new(word("node")?),
        peer: word("peer")?.parse().ok()?,
    })
}
