//! Confidence intervals for shares of counted probes.

/// The normal quantile of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % interval for a share with `successes` of `n`, by Wilson's score method, which stays within 0 to 1 and is
/// informative even when all or none succeeded.
///
/// `n` of 0 is no evidence: (0, 1).
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of probes are far below 2^52"
)]
pub fn wilson(successes: u64, n: u64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let count = n as f64;
    let share = successes.min(n) as f64 / count;
    let squared = Z * Z;
    let denominator = 1.0 + squared / count;
    let centre = (share + squared / (2.0 * count)) / denominator;
    let margin =
        Z * (share * (1.0 - share) / count + squared / (4.0 * count * count)).sqrt() / denominator;
    ((centre - margin).max(0.0), (centre + margin).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::wilson;

    #[test]
    fn the_interval_is_the_one_of_the_textbooks() {
        // R: binom::binom.confint(c(0, 1, 5, 10), 10, methods = "wilson")
        for (successes, lower, upper) in [
            (0, 0.0, 0.2775),
            (1, 0.0179, 0.4042),
            (5, 0.2366, 0.7634),
            (10, 0.7225, 1.0),
        ] {
            let (low, high) = wilson(successes, 10);
            assert!((low - lower).abs() < 5e-5, "{successes}: {low}");
            assert!((high - upper).abs() < 5e-5, "{successes}: {high}");
        }
    }

    #[test]
    fn no_probes_are_no_evidence() {
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }
}
