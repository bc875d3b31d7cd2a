//! The sources of the checkout: their paths, their texts, and their product code as tokens.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

/// One file of the checkout.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Its path from the root of the checkout, with `/` between parts.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

impl Source {
    /// A file for the tests of the checks.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Its product code: the lines before the first top-level `#[cfg(test)]`.
    pub(crate) fn product(&self) -> &str {
        let end = self
            .text
            .find("\n#[cfg(test)]")
            .map_or(self.text.len(), |at| at + 1);
        &self.text[..end]
    }

    /// Whether the file holds only tests or benchmarks.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/').rev();
        parts.next() == Some("tests.rs")
            || parts.any(|folder| folder == "tests" || folder == "benches")
    }

    /// The tokens of its product code, without groups and comments.
    pub(crate) fn tokens(&self) -> Result<Vec<String>, String> {
        self.tokens_of(self.product())
    }

    /// The tokens of the whole file, without groups and comments.
    pub(crate) fn all_tokens(&self) -> Result<Vec<String>, String> {
        self.tokens_of(&self.text)
    }

    fn tokens_of(&self, text: &str) -> Result<Vec<String>, String> {
        let stream: TokenStream = text
            .parse()
            .map_err(|error| format!("{}: cannot parse it: {error}", self.path))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        Ok(tokens)
    }

    /// The path of its module in its crate: `src/packet/tcp.rs` is `["packet", "tcp"]`.
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

/// Every file under `root` with one of these extensions, sorted, without build output.
pub(crate) fn read_all(root: &Path, extensions: &[&str]) -> Vec<Source> {
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
                if name != "target" && name != "node_modules" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|extension| extensions.iter().any(|known| extension == *known))
            {
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

fn flatten(stream: TokenStream, tokens: &mut Vec<String>) {
    for token in stream {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                tokens.push(open.to_owned());
                flatten(group.stream(), tokens);
                tokens.push(close.to_owned());
            }
            TokenTree::Ident(ident) => tokens.push(ident.to_string()),
            TokenTree::Punct(punct) => tokens.push(punct.as_char().to_string()),
            TokenTree::Literal(literal) => tokens.push(literal.to_string()),
        }
    }
}

#[test]
fn product_code_ends_where_tests_begin() {
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
fn the_path_gives_the_module_and_whether_it_is_a_test() {
    assert_eq!(
        Source::new("prober/core/src/packet/tcp.rs", "").module(),
        ["packet", "tcp"]
    );
    assert_eq!(
        Source::new("prober/core/src/lib.rs", "").module(),
        Vec::<&str>::new()
    );
    assert!(Source::new("tests/lab.rs", "").is_test());
    assert!(Source::new("prober/core/src/probe/tests.rs", "").is_test());
    assert!(!Source::new("prober/core/src/probe.rs", "").is_test());
}

#[test]
fn tokens_are_neither_comments_nor_strings() {
    let file = Source::new(
        "a.rs",
        "//! unsafe\nfn a<'b>() { let c = \"unsafe\"; /* unsafe */ }",
    );
    assert!(file.tokens().unwrap().iter().all(|token| token != "unsafe"));
}
