//! Rust sources as the architecture tests read them: where a file belongs, and its product part as tokens.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

/// One `.rs` file of the checkout.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Where it lies, from the root of the checkout, with `/` between parts.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl Source {
    /// A made-up file, for the tests of the checks.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The lines before the first top-level `#[cfg(test)]`: what is shipped.
    pub(crate) fn product(&self) -> &str {
        let end = self
            .text
            .find("\n#[cfg(test)]")
            .map_or(self.text.len(), |at| at + 1);
        &self.text[..end]
    }

    /// Whether the file holds nothing but tests or benches.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/').rev();
        parts.next() == Some("tests.rs")
            || parts.any(|folder| folder == "tests" || folder == "benches")
    }

    /// The product part as one flat row of tokens: groups are opened up, comments are gone, strings are literals.
    pub(crate) fn tokens(&self) -> Result<Vec<String>, String> {
        let stream: TokenStream = self
            .product()
            .parse()
            .map_err(|error| format!("{}: not Rust that can be read: {error}", self.path))?;
        let mut row = Vec::new();
        flatten(stream, &mut row);
        Ok(row)
    }

    /// The modules that lead to this file, from its crate's root: `src/wire/tcp.rs` is `["wire", "tcp"]`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inside = self
            .path
            .split_once("src/")
            .map_or("", |(_, inside)| inside);
        let stem = inside.strip_suffix(".rs").unwrap_or(inside);
        stem.split('/')
            .filter(|part| !matches!(*part, "lib" | "main" | ""))
            .collect()
    }
}

/// Every Rust file under `root`, sorted, without what was built or generated.
pub(crate) fn read_all(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("list {}: {error}", folder.display()))
        {
            let path = entry
                .expect("an entry of a folder that was just listed")
                .path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
                found.push(Source {
                    path: relative(root, &path),
                    text,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn relative(root: &Path, path: &Path) -> String {
    let inside: PathBuf = path.strip_prefix(root).unwrap_or(path).to_path_buf();
    inside.to_string_lossy().into_owned()
}

fn flatten(stream: TokenStream, row: &mut Vec<String>) {
    for token in stream {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                row.push(open.to_owned());
                flatten(group.stream(), row);
                row.push(close.to_owned());
            }
            TokenTree::Ident(ident) => row.push(ident.to_string()),
            TokenTree::Punct(punct) => row.push(punct.as_char().to_string()),
            TokenTree::Literal(literal) => row.push(literal.to_string()),
        }
    }
}

#[test]
fn the_product_part_ends_where_the_tests_begin() {
    let file = Source::new(
        "prober/core/src/time.rs",
        "//! Time.\nfn a() {}\n#[cfg(test)]\nmod tests {}\n",
    );
    assert_eq!(file.product().lines().count(), 2);
    let indented = Source::new(
        "prober/core/src/time.rs",
        "//! Time.\nimpl A {\n    #[cfg(test)]\n    fn b() {}\n}\n",
    );
    assert_eq!(indented.product().lines().count(), 5);
}

#[test]
fn a_file_knows_its_modules_and_whether_it_is_a_test() {
    assert_eq!(
        Source::new("prober/core/src/wire/tcp.rs", "").module(),
        ["wire", "tcp"]
    );
    assert_eq!(
        Source::new("prober/core/src/lib.rs", "").module(),
        Vec::<&str>::new()
    );
    assert!(Source::new("tests/lab.rs", "").is_test());
    assert!(Source::new("prober/core/src/flight/tests.rs", "").is_test());
    assert!(!Source::new("prober/core/src/flight.rs", "").is_test());
}

#[test]
fn tokens_hold_no_comment_and_no_string() {
    let file = Source::new(
        "a.rs",
        "//! unsafe\nfn a<'b>() { let c = \"unsafe\"; /* unsafe */ }",
    );
    assert!(file.tokens().unwrap().iter().all(|token| token != "unsafe"));
}
