//! The name that a wrong one may stand for: what "did you mean" offers, of nodes, causes, faults and contexts alike.

/// The least similarity (normalised Damerau-Levenshtein distance) of a name that is offered: a typo or two in a word,
/// not another word.
const SIMILAR: f64 = 0.6;

/// The shortest beginning of a name that stands for the whole.
const PREFIX: usize = 4;

/// The name of `known` that is most similar to `wrong`, whatever the case; of equals the first in the alphabet.
/// `None` where none is similar.
pub fn closest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let is_prefix = |name: &str| wrong.chars().count() >= PREFIX && name.starts_with(&wrong);
    known
        .into_iter()
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let similarity = strsim::normalized_damerau_levenshtein(&wrong, &lower);
            (similarity >= SIMILAR || is_prefix(&lower)).then_some((similarity, name))
        })
        .max_by(|(one, name), (other, second)| one.total_cmp(other).then(second.cmp(name)))
        .map(|(_, name)| name)
}

/// The suggestion as the end of a sentence: ` (did you mean node-2?)`, or nothing.
pub fn did_you_mean(closest: Option<&str>) -> String {
    closest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_suggested_only_where_it_is_similar() {
        let known = ["node-1", "node-2", "control-plane", "rp-filter"];
        for (wrong, expected) in [
            ("nod-2", Some("node-2")),
            ("NODE_2", Some("node-2")),
            ("node", Some("node-1")),
            ("control", Some("control-plane")),
            ("rp-fliter", Some("rp-filter")),
            ("con", None),
            ("gpu", None),
            ("foo", None),
            ("", None),
        ] {
            assert_eq!(closest(wrong, known), expected, "{wrong:?}");
        }
    }
}
