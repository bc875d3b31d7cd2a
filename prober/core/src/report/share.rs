//! Shares of counts and their confidence intervals, rounded to the precision of the measurement.

use crate::evidence::statistics::wilson;

/// `part` of `whole` as a share from 0 to 1; `None` if `whole` is 0.
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| round(ratio(part, whole), digits(whole)))
}

/// The 95 % confidence interval (Wilson) of `part` of `whole`, rounded as [`share`] is; `None` if `whole` is 0.
pub fn interval(part: u64, whole: u64) -> Option<[f64; 2]> {
    let (low, high) = wilson(part, whole);
    (whole > 0).then(|| [low, high].map(|edge| round(edge, digits(whole))))
}

/// Rounds a positive number to two significant digits, the precision of the latency histogram; 0 for any other.
pub fn two_digits(value: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let mut step = 1.0;
    while value / step >= 100.0 {
        step *= 10.0;
    }
    let mut parts = 1.0;
    while value / step * parts < 10.0 {
        parts *= 10.0;
    }
    (value / step * parts).round() * step / parts
}

/// The decimal places that a count of `whole` supports, and one more for rounding.
fn digits(whole: u64) -> u32 {
    whole.checked_ilog10().unwrap_or(0) + 2
}

fn round(value: f64, digits: u32) -> f64 {
    let scale = 10_f64.powi(i32::try_from(digits).unwrap_or(17).min(17));
    (value * scale).round() / scale
}

fn ratio(part: u64, whole: u64) -> f64 {
    float(part) / float(whole)
}

#[expect(clippy::cast_precision_loss, reason = "no run counts to 2^53 probes")]
const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_share_and_no_interval() {
        assert_eq!(share(0, 0), None);
        assert_eq!(interval(0, 0), None);
    }

    #[test]
    fn the_interval_holds_the_share_and_stays_within_zero_and_one() {
        for whole in 1..200 {
            for part in 0..=whole {
                let [low, high] = interval(part, whole).unwrap();
                let middle = share(part, whole).unwrap();
                assert!((0.0..=middle).contains(&low), "{part}/{whole}: {low}");
                assert!((middle..=1.0).contains(&high), "{part}/{whole}: {high}");
            }
        }
    }

    #[test]
    fn a_share_has_no_more_digits_than_its_count_gives() {
        assert_eq!(share(1, 3), Some(0.33));
        assert_eq!(share(1, 10), Some(0.1));
        assert_eq!(share(3_333, 10_000), Some(0.3333));
        assert_eq!(share(7, 7), Some(1.0));
    }

    #[test]
    fn two_digits_are_kept() {
        for (value, kept) in [
            (0.0, 0.0),
            (4.111, 4.1),
            (38.4, 38.0),
            (142.0, 140.0),
            (0.0567, 0.057),
            (1_049_000.0, 1_000_000.0),
            (99.7, 100.0),
        ] {
            assert!((two_digits(value) - kept).abs() < 1e-9, "{value}");
        }
    }
}
