//! Durations as text, such as `10s`, `1m30s` and `500ms`: the subset of Go's `time.ParseDuration` without signs,
//! fractions and nanoseconds, so that the CEL rules of the schema can compare them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The units and their milliseconds, longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The pattern of the schema: at least one unit, each at most once, longest first, and no number too large for a
/// `GoDuration`.
const PATTERN: &str = "^([0-9]{1,6}h([0-9]{1,6}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?|[0-9]{1,6}m([0-9]{1,6}s)?([0-9]{1,6}ms)?|[0-9]{1,6}s([0-9]{1,6}ms)?|[0-9]{1,6}ms)$";

/// A duration of whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GoDuration(Duration);

/// Text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no length of time such as 10s, 1m30s or 500ms")]
pub struct GoDurationError(String);

impl GoDuration {
    /// The longest that can be written: 114 years.
    pub const LONGEST: Self = Self::from_secs(999_999 * 3_600);

    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The duration, rounded down to whole milliseconds.
    pub const fn of(length: Duration) -> Self {
        Self(Duration::new(
            length.as_secs(),
            length.subsec_millis() * 1_000_000,
        ))
    }

    /// The duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for GoDuration {
    type Err = GoDurationError;

    fn from_str(text: &str) -> Result<Self, GoDurationError> {
        let bad = || GoDurationError(text.chars().take(40).collect());
        let mut rest = text;
        let mut millis = 0_u64;
        for (unit, worth) in UNITS {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let Some(tail) = after.strip_prefix(unit) else {
                continue;
            };
            if unit == "m" && tail.starts_with('s') {
                continue;
            }
            if digits == 0 || digits > 6 {
                return Err(bad());
            }
            let number: u64 = number.parse().map_err(|_| bad())?;
            millis += number * worth;
            rest = tail;
        }
        if text.is_empty() || !rest.is_empty() {
            return Err(bad());
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl TryFrom<String> for GoDuration {
    type Error = GoDurationError;

    fn try_from(text: String) -> Result<Self, GoDurationError> {
        text.parse()
    }
}

impl From<GoDuration> for String {
    fn from(span: GoDuration) -> Self {
        span.to_string()
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, worth) in UNITS {
            let number = rest / worth;
            rest %= worth;
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": 32})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_parsed() {
        let read = |text: &str| text.parse::<GoDuration>().unwrap().duration();
        assert_eq!(read("10s"), Duration::from_secs(10));
        assert_eq!(read("1m30s"), Duration::from_secs(90));
        assert_eq!(read("500ms"), Duration::from_millis(500));
        assert_eq!(read("2h5ms"), Duration::from_millis(7_200_005));
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "1s1m",
            "10 s",
            "1d",
            "9999999s",
            "1s1s",
            "1\u{661}s",
        ] {
            assert_eq!(
                text.parse::<GoDuration>(),
                Err(GoDurationError(text.to_owned())),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_formatted_duration_parses_to_itself(millis in 0_u64..3_000_000_000) {
            let span = GoDuration::of(Duration::from_millis(millis));
            prop_assert_eq!(span.to_string().parse::<GoDuration>(), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "[0-9hms]{0,12}|\\PC{0,12}") {
            drop(text.parse::<GoDuration>());
        }
    }
}
