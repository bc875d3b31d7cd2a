//! The modes of kube-proxy that a lab can have.

use std::fmt;
use std::str::FromStr;

/// How kube-proxy translates the addresses of Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// By chains of the iptables table `nat`.
    Iptables,
    /// By a table of nftables.
    Nftables,
}

impl ProxyMode {
    /// Every mode; the first one is the default.
    pub const ALL: &'static [Self] = &[Self::Iptables, Self::Nftables];

    /// Returns its name, the value of kube-proxy's `--proxy-mode`.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }

    /// Returns a description in one line.
    pub const fn summary(self) -> &'static str {
        match self {
            Self::Iptables => "chains of the iptables table nat",
            Self::Nftables => "a table of nftables",
        }
    }
}

impl fmt::Display for ProxyMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.slug())
    }
}

/// A text that is not a mode of kube-proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no mode '{0}' of the lab's kube-proxy: give iptables or nftables")]
pub struct UnknownProxyMode(String);

impl FromStr for ProxyMode {
    type Err = UnknownProxyMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.iter().copied();
        all.find(|mode| mode.slug().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownProxyMode(text.to_owned()))
    }
}
