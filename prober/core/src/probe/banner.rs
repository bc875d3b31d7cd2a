//! The responder's first line: formatting and parsing.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::topology::NodeName;

/// The first line of a responder: its identity, and the address of its client.
///
/// One line of ASCII: `PROBER/1 nonce=<hex> pod=<name> node=<name> peer=<address:port>\n`. A standing responder appends
/// ` addresses=<address>,<address>`; readers ignore further fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banner {
    /// The run's nonce.
    pub nonce: u64,
    /// The pod that answers.
    pub pod: String,
    /// The node it runs on.
    pub node: NodeName,
    /// The address of the client as the responder sees it. It differs from the real one under source NAT.
    pub peer: SocketAddr,
    /// The addresses of the pod that answers, at most one of each family; only of a standing responder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// Maximum length of a banner line in bytes, including the newline.
pub const LONGEST_LINE: usize = 768;

/// Why a line does not parse as a banner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BannerError {
    /// It does not begin with `PROBER/1 `: another server answers at this address.
    #[error("the answer is not from a prober responder: its line does not begin with 'PROBER/1 '")]
    NotABanner,
    /// A field is missing, out of order, or malformed.
    #[error(
        "the banner's field '{0}' is missing or malformed: is the responder of another release?"
    )]
    Field(&'static str),
}

impl Banner {
    /// The line that a responder sends, with its newline.
    pub fn to_line(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let addresses = if addresses.is_empty() {
            String::new()
        } else {
            format!(" addresses={}", addresses.join(","))
        };
        format!(
            "PROBER/1 nonce={:016x} pod={} node={} peer={}{addresses}\n",
            self.nonce, self.pod, self.node, self.peer
        )
    }

    /// Parses a line, with or without its newline.
    pub fn parse_line(line: &[u8]) -> Result<Self, BannerError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|_| BannerError::NotABanner)?;
        let mut fields = text
            .strip_prefix("PROBER/1 ")
            .ok_or(BannerError::NotABanner)?
            .split(' ');
        let nonce = u64::from_str_radix(field(fields.next(), "nonce")?, 16)
            .map_err(|_| BannerError::Field("nonce"))?;
        let pod = field(fields.next(), "pod")?.to_owned();
        let node = NodeName::new(field(fields.next(), "node")?);
        let peer = SocketAddr::from_str(field(fields.next(), "peer")?)
            .map_err(|_| BannerError::Field("peer"))?;
        let addresses = match fields.next() {
            Some(text) if text.starts_with("addresses=") => field(Some(text), "addresses")?
                .split(',')
                .map(|address| address.parse().map_err(|_| BannerError::Field("addresses")))
                .collect::<Result<_, _>>()?,
            // A field of a later release.
            Some(_) | None => Vec::new(),
        };
        Ok(Self {
            nonce,
            pod,
            node,
            peer,
            addresses,
        })
    }
}

fn field<'a>(text: Option<&'a str>, name: &'static str) -> Result<&'a str, BannerError> {
    text.and_then(|text| text.strip_prefix(name)?.strip_prefix('='))
        .filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or(BannerError::Field(name))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn banner() -> Banner {
        Banner {
            nonce: 0xfeed,
            pod: "server-node-1".to_owned(),
            node: NodeName::new("node-1"),
            peer: "100.96.1.10:40000".parse().unwrap(),
            addresses: Vec::new(),
        }
    }

    #[test]
    fn a_banner_is_one_line_of_ascii() {
        assert_eq!(
            banner().to_line(),
            "PROBER/1 nonce=000000000000feed pod=server-node-1 node=node-1 peer=100.96.1.10:40000\n"
        );
        let standing = Banner {
            addresses: vec!["100.96.1.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            ..banner()
        };
        assert_eq!(
            standing.to_line(),
            "PROBER/1 nonce=000000000000feed pod=server-node-1 node=node-1 peer=100.96.1.10:40000 addresses=100.96.1.7,fd00::7\n"
        );
    }

    #[test]
    fn a_field_of_a_later_release_is_ignored_and_a_malformed_address_is_not() {
        let line = |more: &str| format!("{} {more}\n", banner().to_line().trim_end());
        assert_eq!(
            Banner::parse_line(line("colour=blue").as_bytes()),
            Ok(banner())
        );
        for more in ["addresses=", "addresses=1.2.3", "addresses=1.2.3.4,"] {
            assert_eq!(
                Banner::parse_line(line(more).as_bytes()),
                Err(BannerError::Field("addresses")),
                "{more}"
            );
        }
    }

    #[test]
    fn the_line_of_another_server_is_not_a_banner() {
        for line in [
            &b"HTTP/1.1 400 Bad Request"[..],
            b"",
            b"\n",
            b"SSH-2.0",
            b"\xff\xfe",
        ] {
            assert_eq!(Banner::parse_line(line), Err(BannerError::NotABanner));
        }
    }

    #[test]
    fn the_error_names_the_missing_field() {
        assert_eq!(
            Banner::parse_line(b"PROBER/1 nonce=1 pod=a node=b"),
            Err(BannerError::Field("peer"))
        );
        assert_eq!(
            Banner::parse_line(b"PROBER/1 nonce=x pod=a node=b peer=1.2.3.4:5"),
            Err(BannerError::Field("nonce"))
        );
    }

    proptest! {
        #[test]
        fn a_banner_survives_formatting_and_parsing(nonce: u64, pod in "[a-z0-9.-]{1,200}", node in "[a-z0-9.-]{1,200}", peer: SocketAddr, v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) {
            let mut peer = peer;
            if let SocketAddr::V6(v6) = &mut peer {
                v6.set_flowinfo(0);
                v6.set_scope_id(0);
            }
            let addresses = v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).collect();
            let banner = Banner { nonce, pod, node: NodeName::new(node), peer, addresses };
            let line = banner.to_line();
            prop_assert!(line.len() <= LONGEST_LINE);
            prop_assert_eq!(Banner::parse_line(line.as_bytes()), Ok(banner));
        }

        #[test]
        fn any_bytes_give_a_banner_or_an_error(bytes: Vec<u8>) {
            prop_assert!(Banner::parse_line(&bytes).is_err());
            let ours = [b"PROBER/1 ", &bytes[..]].concat();
            if let Ok(banner) = Banner::parse_line(&ours) {
                prop_assert!(Banner::parse_line(banner.to_line().as_bytes()).is_ok());
            }
        }
    }
}
