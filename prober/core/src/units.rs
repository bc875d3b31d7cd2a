//! Durations for people: two digits, in the unit that fits.

use std::time::Duration;

use crate::time::nanos;

/// Units, longest first, in nanoseconds.
const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];

/// `ns` nanoseconds with two significant digits: `850 ns`, `38 us`, `4.1 ms`, `160 ms`, `5.4 s`.
pub(crate) fn duration(ns: u64) -> String {
    let mut step = 1;
    while ns / step >= 100 {
        step *= 10;
    }
    let rounded = ns.saturating_add(step / 2) / step * step;
    let unit = UNITS.into_iter().find(|(length, _)| rounded >= *length);
    let Some((length, name)) = unit else {
        return format!("{rounded} ns");
    };
    let (whole, tenths) = (rounded / length, rounded % length * 10 / length);
    if whole < 10 {
        format!("{whole}.{tenths} {name}")
    } else {
        format!("{whole} {name}")
    }
}

/// The same of microseconds, as reports carry them.
pub(crate) fn micros(us: f64) -> String {
    duration(Duration::try_from_secs_f64(us / 1e6).map_or(0, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_fits_and_two_digits_are_kept() {
        for (ns, shown) in [
            (0, "0 ns"),
            (85, "85 ns"),
            (854, "850 ns"),
            (999, "1.0 us"),
            (4_111, "4.1 us"),
            (38_400, "38 us"),
            (99_700, "100 us"),
            (163_000, "160 us"),
            (999_600, "1.0 ms"),
            (160_000_000, "160 ms"),
            (5_432_000_000, "5.4 s"),
            (153_000_000_000, "150 s"),
        ] {
            assert_eq!(duration(ns), shown, "{ns} ns");
        }
        assert!(duration(u64::MAX).ends_with(" s"));
    }

    #[test]
    fn microseconds_of_a_report_are_shown_like_nanoseconds() {
        assert_eq!(micros(38.0), "38 us");
        assert_eq!(micros(160_000.0), "160 ms");
        assert_eq!(micros(0.057), "57 ns");
        assert_eq!(micros(-1.0), "0 ns");
    }
}
