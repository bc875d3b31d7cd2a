//! The values of arguments that several commands share: formats, families, tiers, names and durations.

use std::ffi::OsStr;
use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use prober_core::diagnosis::catalogue::{Cause, UnknownCause};
use prober_core::packet::family::Family;
use prober_core::probe::tier::Tier;
use prober_core::run::MissingFamilies;
use prober_core::suggestion::{closest, did_you_mean};
use prober_core::topology::AccessPath;

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For people, with every path and every note
    Wide,
    /// One document for programs, of the schema prober.dev/report/v1
    Json,
    /// The same document as YAML
    Yaml,
    /// One self-contained page
    Html,
    /// The packets of failing probes, with comments for Wireshark
    Pcapng,
    /// JUnit XML, a test case for each path, for CI
    Junit,
}

impl Format {
    /// Returns the names of all formats.
    pub(crate) fn names() -> Vec<String> {
        let formats = Self::value_variants().iter();
        formats.map(ToString::to_string).collect()
    }

    /// Whether the format is a document for programs, which receive a report even of a run that could not run.
    pub(crate) const fn is_document(self) -> bool {
        match self {
            Self::Json | Self::Yaml | Self::Junit => true,
            Self::Text | Self::Wide | Self::Html | Self::Pcapng => false,
        }
    }

    /// Returns the format of this name, in any case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::from_str(name, true).ok()
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", PossibleValue::get_name))
    }
}

/// The format of a short list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// For programs, as YAML
    Yaml,
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
    /// Both; the paths of a family that is missing are reported as not probed
    Dual,
}

impl Families {
    /// Returns whether the paths of a missing family are reported: they are if the family is requested.
    pub(crate) const fn missing(self) -> MissingFamilies {
        match self {
            Self::Auto => MissingFamilies::Skip,
            Self::Ipv4 | Self::Ipv6 | Self::Dual => MissingFamilies::Report,
        }
    }

    /// Returns the families to probe; `Auto` selects the available ones.
    pub(crate) fn list(self, available: &[Family]) -> Vec<Family> {
        match self {
            Self::Auto => available.to_vec(),
            Self::Ipv4 => vec![Family::Ipv4],
            Self::Ipv6 => vec![Family::Ipv6],
            Self::Dual => vec![Family::Ipv4, Family::Ipv6],
        }
    }
}

/// A tier of the evidence of a run, as given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunTierArg {
    /// connect() results and counters, without any capability
    #[value(name = "T0")]
    T0,
    /// The packets of both ends (CAP_NET_RAW)
    #[value(name = "T1")]
    T1,
    /// Also node facts: sysctls, routes, filter rules
    #[value(name = "T2")]
    T2,
}

impl From<RunTierArg> for Tier {
    fn from(tier: RunTierArg) -> Self {
        match tier {
            RunTierArg::T0 => Self::T0,
            RunTierArg::T1 => Self::T1,
            RunTierArg::T2 => Self::T2,
        }
    }
}

/// A parser for the name of an entry of a long list.
///
/// Shells complete the name, errors suggest the closest one, and the help does not list them all.
#[derive(Clone)]
pub(crate) struct NamedValue<T> {
    /// Parses a name; the error is a sentence without its line end.
    pub(crate) parse: fn(&str) -> Result<T, String>,
    /// Returns every name and its meaning, for completion.
    pub(crate) names: fn() -> Vec<PossibleValue>,
}

/// Returns the parser of a cause's name.
pub(crate) fn cause() -> NamedValue<Cause> {
    NamedValue {
        parse: |text| {
            text.parse()
                .map_err(|error: UnknownCause| error.to_string())
        },
        names: || {
            let causes = Cause::ALL.iter();
            let value = |cause: &Cause| PossibleValue::new(cause.slug()).help(cause.meaning());
            causes.map(value).collect()
        },
    }
}

/// Returns the parser of an access path.
pub(crate) fn access_path() -> NamedValue<AccessPath> {
    const fn meaning(access_path: AccessPath) -> &'static str {
        match access_path {
            AccessPath::PodIp => "The server pod's own address",
            AccessPath::ClusterIp => "A Service with this server alone behind it",
            AccessPath::ClusterIpAny => "A Service with all servers behind it",
            AccessPath::ClusterIpLocal => "A Service that leads to servers of the client's node",
            AccessPath::Hairpin => "A Service, from the very server behind it",
            AccessPath::NodePort => "A node port, at the address of the server's node",
            AccessPath::HostNetwork => "A Service, from the client node's own network",
        }
    }
    NamedValue {
        parse: |text| {
            let mut all = AccessPath::ALL.into_iter();
            let found = all.find(|one| one.as_str().eq_ignore_ascii_case(text));
            found.ok_or_else(|| {
                let names = AccessPath::ALL.map(AccessPath::as_str);
                let suggestion = did_you_mean(closest(text, names));
                format!(
                    "unknown access path '{text}'{suggestion}: expected one of {}",
                    names.join(", ")
                )
            })
        },
        names: || {
            let paths = AccessPath::ALL.into_iter();
            paths
                .map(|one| PossibleValue::new(one.as_str()).help(meaning(one)))
                .collect()
        },
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for NamedValue<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let text = StringValueParser::new().parse_ref(command, argument, value)?;
        (self.parse)(&text).map_err(|sentence| {
            clap::Error::raw(ErrorKind::ValueValidation, sentence + "\n").with_cmd(command)
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.names)().into_iter()))
    }
}

/// Parses a duration in `ms`, `s` or `m`, such as `800ms`, `3.5s` or `2m`.
///
/// Fails without a unit, with another unit, and if the number is negative or too large.
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
