//! Calico's selectors: `projectcalico.org/orchestrator == 'k8s' && !has(legacy)`.
//!
//! <https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#selector>

use super::selector::{Label, both};

/// The deepest nesting of parentheses and negations that is evaluated.
const MAX_DEPTH: usize = 32;

/// Whether a selector selects labels. An empty one selects all. `None` where that is not known: a label is not, or the text is
/// no selector.
pub(super) fn selects<'a>(text: &str, label: impl Fn(&str) -> Label<'a>) -> Option<bool> {
    if text.trim().is_empty() {
        return Some(true);
    }
    let mut parser = Parser {
        rest: text.trim_start(),
        label: &label,
        depth: 0,
    };
    let selected = parser.either().ok()?;
    parser.rest.is_empty().then_some(selected)?
}

/// The text is no selector.
struct Unparsable;

/// A result of the evaluation: `None` where an unknown label decides.
type Evaluated = Result<Option<bool>, Unparsable>;

struct Parser<'t, 'l, 'f> {
    rest: &'t str,
    label: &'f dyn Fn(&str) -> Label<'l>,
    depth: usize,
}

impl<'t> Parser<'t, '_, '_> {
    /// Takes this text and the white space behind it.
    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, text: &str) -> Result<(), Unparsable> {
        self.take(text).then_some(()).ok_or(Unparsable)
    }

    /// `a || b`
    fn either(&mut self) -> Evaluated {
        let mut selected = self.all()?;
        while self.take("||") {
            let other = self.all()?;
            // a || b = !(!a && !b)
            selected = both(selected.map(|one| !one), other.map(|one| !one)).map(|one| !one);
        }
        Ok(selected)
    }

    /// `a && b`
    fn all(&mut self) -> Evaluated {
        let mut selected = self.operand()?;
        while self.take("&&") {
            selected = both(selected, self.operand()?);
        }
        Ok(selected)
    }

    /// A negation, a selector in parentheses, or a condition.
    fn operand(&mut self) -> Evaluated {
        if self.depth == MAX_DEPTH {
            return Err(Unparsable);
        }
        self.depth += 1;
        let selected = if !self.rest.starts_with("!=") && self.take("!") {
            self.operand()?.map(|one| !one)
        } else if self.take("(") {
            let inner = self.either()?;
            self.expect(")")?;
            inner
        } else {
            self.condition()?
        };
        self.depth -= 1;
        Ok(selected)
    }

    /// `all()`, `global()`, `has(label)`, or a label with an operator.
    fn condition(&mut self) -> Evaluated {
        let name = self.name()?;
        match name {
            "all" if self.take("(") => {
                self.expect(")")?;
                return Ok(Some(true));
            }
            // Endpoints in no namespace.
            "global" if self.take("(") => {
                self.expect(")")?;
                return Ok(Some(false));
            }
            "has" if self.take("(") => {
                let label = (self.label)(self.name()?);
                self.expect(")")?;
                return Ok(label.is(|value| value.is_some()));
            }
            _ => {}
        }
        let label = (self.label)(name);
        if self.take("==") {
            let wanted = self.string()?;
            return Ok(label.is(|value| value == Some(wanted)));
        }
        if self.take("!=") {
            let wanted = self.string()?;
            return Ok(label.is(|value| value != Some(wanted)));
        }
        match self.name()? {
            "in" => {
                let listed = self.list()?;
                Ok(label.is(|value| value.is_some_and(|value| listed.contains(&value))))
            }
            "not" => {
                if self.name()? != "in" {
                    return Err(Unparsable);
                }
                let listed = self.list()?;
                Ok(label.is(|value| value.is_none_or(|value| !listed.contains(&value))))
            }
            "contains" => {
                let part = self.string()?;
                Ok(label.is(|value| value.is_some_and(|value| value.contains(part))))
            }
            "starts" if self.name()? == "with" => {
                let part = self.string()?;
                Ok(label.is(|value| value.is_some_and(|value| value.starts_with(part))))
            }
            "ends" if self.name()? == "with" => {
                let part = self.string()?;
                Ok(label.is(|value| value.is_some_and(|value| value.ends_with(part))))
            }
            _ => Err(Unparsable),
        }
    }

    /// The name of a label, a function or an operator.
    fn name(&mut self) -> Result<&'t str, Unparsable> {
        let is_of_name = |letter: char| {
            letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '/' | '-')
        };
        let end = self.rest.find(|letter| !is_of_name(letter));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if name.is_empty() {
            return Err(Unparsable);
        }
        self.rest = rest.trim_start();
        Ok(name)
    }

    /// A string in single or double quotes; there are no escapes.
    fn string(&mut self) -> Result<&'t str, Unparsable> {
        let quote = self
            .rest
            .chars()
            .next()
            .filter(|one| matches!(one, '\'' | '"'));
        let quote = quote.ok_or(Unparsable)?;
        let opened = self.rest.strip_prefix(quote).ok_or(Unparsable)?;
        let (text, rest) = opened.split_once(quote).ok_or(Unparsable)?;
        self.rest = rest.trim_start();
        Ok(text)
    }

    /// `{'a', 'b'}`
    fn list(&mut self) -> Result<Vec<&'t str>, Unparsable> {
        self.expect("{")?;
        let mut listed = Vec::new();
        while !self.take("}") {
            listed.push(self.string()?);
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selected(text: &str) -> Option<bool> {
        selects(text, |key| match key {
            "app" => Label::Value("shop"),
            "projectcalico.org/orchestrator" => Label::Value("k8s"),
            "secret" => Label::Unknown,
            _ => Label::Absent,
        })
    }

    #[test]
    fn each_operator_has_its_meaning() {
        for (text, expected) in [
            ("", Some(true)),
            ("all()", Some(true)),
            ("global()", Some(false)),
            ("app == 'shop'", Some(true)),
            ("app == \"cart\"", Some(false)),
            ("app != 'shop'", Some(false)),
            ("legacy != 'yes'", Some(true)),
            ("has(app)", Some(true)),
            ("!has(app)", Some(false)),
            ("! has( legacy )", Some(true)),
            ("app in {'cart', 'shop'}", Some(true)),
            ("app in {}", Some(false)),
            ("app not in { 'cart','shop' }", Some(false)),
            ("legacy not in {'yes'}", Some(true)),
            ("app contains 'ho'", Some(true)),
            ("app starts with 'sh'", Some(true)),
            ("app ends with 'sh'", Some(false)),
            (
                "projectcalico.org/orchestrator == 'k8s' && !has(legacy)",
                Some(true),
            ),
            (
                "app == 'cart' || (has(app) && !(app == 'cart'))",
                Some(true),
            ),
            ("app == 'cart' || app == 'shop' && has(legacy)", Some(false)),
        ] {
            assert_eq!(selected(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_or_no_selector_may_select() {
        for text in [
            "secret == 'x'",
            "secret == 'x' || app == 'cart'",
            "app = 'shop'",
            "app ==",
            "app == shop",
            "app == 'shop",
            "(app == 'shop'",
            "app == 'shop')",
            "app in {'shop'",
            "app like 'shop'",
            "has(app) has(app)",
            "== 'shop'",
            "\u{1f980}",
        ] {
            assert_eq!(selected(text), None, "{text}");
        }
        let deep = format!("{}app{}", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(selected(&deep), None);
        assert_eq!(selected("secret == 'x' && app == 'cart'"), Some(false));
        assert_eq!(selected("secret == 'x' || app == 'shop'"), Some(true));
    }

    proptest! {
        #[test]
        fn every_text_is_evaluated(text in "[a!=&|(){}', ]{0,40}|\\PC{0,40}") {
            selected(&text);
        }
    }
}
