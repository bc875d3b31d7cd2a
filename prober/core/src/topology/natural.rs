//! The natural order of names: a run of digits counts as a number.

use std::cmp::Ordering;

/// Compares names so that `node-2` comes before `node-10`. Only equal names are equal: `node-02` and `node-2` differ.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let Some(at) = a.iter().zip(b).position(|(a, b)| a != b) else {
        return a.len().cmp(&b.len());
    };
    let (same, rest_of_a) = a.split_at(at);
    let rest_of_b = b.get(at..).unwrap_or_default();
    let begun = same.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let start = at - begun.count();
    let (run_of_a, run_of_b) = (digits(a, start), digits(b, start));
    let by_bytes = rest_of_a.cmp(rest_of_b);
    if run_of_a.is_empty() || run_of_b.is_empty() {
        return by_bytes;
    }
    let (number_of_a, number_of_b) = (significant(run_of_a), significant(run_of_b));
    (number_of_a.len().cmp(&number_of_b.len()))
        .then_with(|| number_of_a.cmp(number_of_b))
        .then_with(|| run_of_a.cmp(run_of_b))
        .then(by_bytes)
}

/// The digits from `start` on.
fn digits(text: &[u8], start: usize) -> &[u8] {
    let rest = text.get(start..).unwrap_or_default();
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest.get(..count).unwrap_or_default()
}

/// A number without leading zeros.
fn significant(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_sort_as_people_count() {
        let sorted = [
            "",
            "1",
            "2",
            "10",
            "node",
            "node-0",
            "node-00",
            "node-1",
            "node-1a",
            "node-02",
            "node-2",
            "node-2-x",
            "node-9",
            "node-10",
            "node-10-server-2",
            "node-10-server-10",
            "node-a",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[ab0-2-]{0,6}", b in "[ab0-2-]{0,6}", c in "[ab0-2-]{0,6}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &b) == Ordering::Equal, a == b);
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
