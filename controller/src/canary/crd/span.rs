//! A length of time as people write it: `10s`, `1m30s`, `500ms`. What Go's `time.ParseDuration` reads the same way, so
//! that the rules of a cluster can compare it, and without what nobody means: signs, fractions, nanoseconds.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The units, longest first, with their milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The same as a pattern: at least one unit, each at most once, longest first, and no number too large for a `Span`.
const PATTERN: &str = "^([0-9]{1,6}h([0-9]{1,6}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?|[0-9]{1,6}m([0-9]{1,6}s)?([0-9]{1,6}ms)?|[0-9]{1,6}s([0-9]{1,6}ms)?|[0-9]{1,6}ms)$";

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

/// Text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no length of time such as 10s, 1m30s or 500ms")]
pub struct SpanError(String);

impl Span {
    /// The longest that can be written: a century.
    pub const LONGEST: Self = Self::from_secs(999_999 * 3_600);

    /// That many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The nearest that can be written: whole milliseconds, rounded down.
    pub const fn of(length: Duration) -> Self {
        Self(Duration::new(
            length.as_secs(),
            length.subsec_millis() * 1_000_000,
        ))
    }

    /// How long it is.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let bad = || SpanError(text.chars().take(40).collect());
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

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
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

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
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
    fn what_people_write_is_read() {
        let read = |text: &str| text.parse::<Span>().unwrap().duration();
        assert_eq!(read("10s"), Duration::from_secs(10));
        assert_eq!(read("1m30s"), Duration::from_secs(90));
        assert_eq!(read("500ms"), Duration::from_millis(500));
        assert_eq!(read("2h5ms"), Duration::from_millis(7_200_005));
    }

    #[test]
    fn what_nobody_means_is_refused() {
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
                text.parse::<Span>(),
                Err(SpanError(text.to_owned())),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_as_the_same(millis in 0_u64..3_000_000_000) {
            let span = Span::of(Duration::from_millis(millis));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }

        #[test]
        fn no_text_is_a_panic(text in "[0-9hms]{0,12}|\\PC{0,12}") {
            drop(text.parse::<Span>());
        }
    }
}
