//! Names in the order in which people count: node-2 before node-10.

/// The key that sorts `name` so: its texts and numbers in turn.
pub(crate) fn natural(name: &str) -> Vec<(String, u64)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (text, after) = split(rest, |byte| !byte.is_ascii_digit());
        let (digits, after) = split(after, |byte| byte.is_ascii_digit());
        key.push((text.to_owned(), digits.parse().unwrap_or(u64::MAX)));
        rest = after;
    }
    key
}

/// `text` before and from the first byte that is not `wanted`.
fn split(text: &str, wanted: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !wanted(byte));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_counted() {
        let mut names = [
            "node-10", "node-2", "node-1", "b", "a-2-11", "a-2-9", "", "née-3", "7",
        ];
        names.sort_by_key(|name| natural(name));
        assert_eq!(
            names,
            [
                "", "7", "a-2-9", "a-2-11", "b", "node-1", "node-2", "node-10", "née-3"
            ]
        );
    }
}
