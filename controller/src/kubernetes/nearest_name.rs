//! Suggests an existing name for one that does not exist.

/// A suggestion for the end of an error message, with a leading blank; empty where there is none.
pub(crate) fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

/// Returns the name of `names` that is most similar to `wrong`; `None` if none is similar enough.
///
/// A name is similar from a normalized Damerau-Levenshtein similarity of 0.6 on, or if it begins with `wrong` and `wrong`
/// has at least four letters.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let similarity = |name: &str| strsim::normalized_damerau_levenshtein(wrong, name);
    names
        .filter(|name| similarity(name) >= 0.6 || (wrong.len() >= 4 && name.starts_with(wrong)))
        .max_by(|one, other| {
            similarity(one)
                .total_cmp(&similarity(other))
                .then(other.cmp(one))
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_similar_name_is_suggested() {
        let guess = |wrong| nearest(wrong, ["node-1", "node-2", "control-plane"].into_iter());
        assert_eq!(guess("nod-2").as_deref(), Some("node-2"));
        assert_eq!(guess("node").as_deref(), Some("node-1"));
        assert_eq!(guess("control").as_deref(), Some("control-plane"));
        assert_eq!(guess("gpu"), None);
    }
}
