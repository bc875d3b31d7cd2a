//! Values on the command line that several commands take.

use std::time::Duration;

use clap::ValueEnum;
use prober_core::packet::family::Family;
use prober_core::probe::tier::Tier;

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people
    Text,
    /// One document for programs, of the schema prober.dev/report/v1
    Json,
    /// One self-contained page
    Html,
}

/// The form of a short list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListForm {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Which IP families are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Families {
    /// Those that the cluster has; in the lab IPv4
    Auto,
    /// IPv4 alone
    Ipv4,
    /// IPv6 alone
    Ipv6,
    /// Both
    Dual,
}

impl Families {
    /// As a run takes them, where there are these.
    pub(crate) fn list(self, available: &[Family]) -> Vec<Family> {
        match self {
            Self::Auto => available.to_vec(),
            Self::Ipv4 => vec![Family::Ipv4],
            Self::Ipv6 => vec![Family::Ipv6],
            Self::Dual => vec![Family::Ipv4, Family::Ipv6],
        }
    }
}

/// The most evidence to gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierArg {
    /// connect() results and counters, without any capability
    #[value(name = "T0")]
    T0,
    /// The packets of both ends (CAP_NET_RAW)
    #[value(name = "T1")]
    T1,
    /// Also what the nodes say of themselves
    #[value(name = "T2")]
    T2,
}

impl From<TierArg> for Tier {
    fn from(tier: TierArg) -> Self {
        match tier {
            TierArg::T0 => Self::T0,
            TierArg::T1 => Self::T1,
            TierArg::T2 => Self::T2,
        }
    }
}

/// Reads `800ms`, `3.5s`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("cannot read {text:?} as a duration: write 800ms, 3.5s or 2m");
    let (number, unit) = text.split_at(
        text.find(|letter: char| letter.is_ascii_alphabetic())
            .ok_or_else(refused)?,
    );
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(refused()),
    };
    let number: f64 = number.parse().map_err(|_| refused())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, millis) in [("800ms", 800), ("3.5s", 3_500), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "3", "3 s", "-1s", "s", "1h", "1e400s", "nans"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
