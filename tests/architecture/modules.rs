//! Which module of a crate may import which, and which module alone may use an external crate.
//!
//! A table has a row for each module, `NAME: IMPORTS`. A row may name a submodule, `report::render`; a file belongs to the
//! row with the longest matching name. The imports are exactly these rows: `report` does not include `report::render`.
//! A row that begins with `io` may do I/O. All others are pure: they name nothing in [`IO`] and import no `io` row.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// The modules of prober-core.
pub(crate) const CORE: &str = include_str!("core.modules");

/// The modules of the controller.
pub(crate) const CONTROLLER: &str = include_str!("controller.modules");

/// An external crate of the core, and the only row that uses it.
pub(crate) const CORE_EXTERNAL: &[(&str, &str)] = &[
    ("pnet_packet", "packet"),
    ("pcap_file", "packet::capture"),
    ("maud", "report::render"),
    ("hdrhistogram", "probe"),
    ("siphasher", "probe"),
];

/// Paths that do I/O or read a clock.
const IO: &[&str] = &[
    "hyper",
    "kube::Api",
    "kube::Client",
    "kube::Config",
    "kube::api",
    "kube::client",
    "kube::config",
    "kube::runtime",
    "nix",
    "std::env",
    "std::fs",
    "std::io",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "tokio",
    "tonic",
    "tower",
];

/// A row of a table.
#[derive(Debug, Clone)]
struct Row {
    does_io: bool,
    imports: BTreeSet<String>,
}

/// The rows of a table, by module.
#[derive(Debug)]
struct Table(BTreeMap<String, Row>);

impl Table {
    fn parse(text: &str) -> Self {
        let rows = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default());
        let rows = rows.filter_map(|line| {
            line.split_once(": ")
                .or_else(|| Some((line.trim_end().strip_suffix(':')?, "")))
        });
        Self(
            rows.map(|(name, imports)| {
                let (does_io, name) = match name.strip_prefix("io ") {
                    Some(name) => (true, name),
                    None => (false, name),
                };
                let imports = imports.split_whitespace().map(str::to_owned).collect();
                (name.trim().to_owned(), Row { does_io, imports })
            })
            .collect(),
        )
    }

    /// The row to which a module or an imported path belongs.
    fn row_of(&self, path: &[String]) -> Option<&str> {
        (1..=path.len()).rev().find_map(|length| {
            let name = path[..length].join("::");
            self.0.get_key_value(&name).map(|(name, _)| name.as_str())
        })
    }
}

/// Every import in a crate's `files` that its table does not allow, one line each.
pub(crate) fn violations(files: &[Source], table: &str, external: &[(&str, &str)]) -> Vec<String> {
    let table = Table::parse(table);
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        let module: Vec<String> = file.module().into_iter().map(str::to_owned).collect();
        if module.is_empty() {
            continue;
        }
        match file.tokens() {
            Ok(tokens) => found.extend(check(file, &module, &paths(&tokens), &table, external)),
            Err(error) => found.push(error),
        }
    }
    found
}

fn check(
    file: &Source,
    module: &[String],
    paths: &BTreeSet<Vec<String>>,
    table: &Table,
    external: &[(&str, &str)],
) -> BTreeSet<String> {
    let name = &file.path;
    let mut found = BTreeSet::new();
    let Some((own, row)) = table
        .row_of(module)
        .and_then(|own| Some((own, table.0.get(own)?)))
    else {
        found.insert(format!(
            "{name}: its module {} has no row in tests/architecture",
            module.join("::")
        ));
        return found;
    };
    for path in paths {
        for (krate, only) in external {
            if path[0] == *krate && own != *only {
                found.insert(format!("{name}: only {only} may use {krate}"));
            }
        }
        let text = path.join("::");
        let does_io = |io: &&&str| text == **io || text.starts_with(&format!("{io}::"));
        if !row.does_io
            && let Some(io) = IO.iter().find(does_io)
        {
            found.insert(format!("{name}: {own} is pure and may not use {io}"));
        }
        let Some(target) = absolute(module, path) else {
            continue;
        };
        match table.row_of(&target) {
            Some(import) if import == own || row.imports.contains(import) => {}
            Some(import) => {
                found.insert(format!("{name}: {own} may not import {import}"));
            }
            None => {}
        }
    }
    found
}

/// An imported path from the crate's root, if it begins with `crate`, or with `super` and leaves its row's module.
fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let supers = path
        .iter()
        .take_while(|segment| *segment == "super")
        .count();
    if supers > 0 {
        let base = module.len().checked_sub(supers)?;
        return Some(
            module[..base]
                .iter()
                .chain(&path[supers..])
                .cloned()
                .collect(),
        );
    }
    match path[0].as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some(module.iter().chain(&path[1..]).cloned().collect()),
        _ => None,
    }
}

/// Every path in `tokens`; use trees are expanded.
fn paths(tokens: &[String]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = is_name(&tokens[at]) && !is_separator(tokens, at.wrapping_sub(2));
        at = if begins && is_separator(tokens, at + 1) {
            expand(tokens, at, &[], &mut found)
        } else {
            at + 1
        };
    }
    found
}

/// Adds the path or use tree at `at`, below `prefix`; returns the position behind it.
fn expand(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    found: &mut BTreeSet<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while let Some(token) = tokens.get(at) {
                    match token.as_str() {
                        "}" => return at + 1,
                        _ if is_name(token) => at = expand(tokens, at, &path, found),
                        _ => at += 1,
                    }
                }
                return at;
            }
            Some(name) if is_name(name) => {
                path.push(name.to_owned());
                at += 1;
            }
            Some(_) | None => break,
        }
        if !is_separator(tokens, at) {
            break;
        }
        at += 2;
    }
    if tokens.get(at).is_some_and(|token| token == "as") {
        at += 2;
    }
    found.insert(path);
    at
}

fn is_separator(tokens: &[String], at: usize) -> bool {
    [at, at.wrapping_add(1)]
        .into_iter()
        .all(|at| tokens.get(at).is_some_and(|token| token == ":"))
}

fn is_name(token: &str) -> bool {
    token
        .chars()
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str =
        "packet:\nprobe: packet\nreport: probe\nreport::render: report\nio sender: packet\n";

    fn found(path: &str, text: &str) -> Vec<String> {
        violations(
            &[Source::new(path, text)],
            SMALL,
            &[("maud", "report::render")],
        )
    }

    #[test]
    fn a_module_may_import_the_rows_in_its_table_and_itself() {
        let text = "//! P.\nuse crate::packet::{Packet, tcp::Flags};\nuse crate::probe::Outcome;\nuse super::probe;\n";
        assert_eq!(
            found("prober/core/src/probe.rs", text),
            Vec::<String>::new()
        );
    }

    #[test]
    fn any_other_import_is_found() {
        for text in [
            "use crate::probe::Outcome;",
            "use crate::{packet::Packet, probe::Outcome};",
            "use crate::{packet::{Packet, tcp}, probe};",
            "use super::probe::Outcome;",
            "use super::{packet, probe as other};",
            "fn a() -> crate::probe::Outcome { b() }",
            "fn a() { let crate::probe::Outcome::Timeout = b() else { return }; }",
        ] {
            assert_eq!(
                found("prober/core/src/packet.rs", text),
                ["prober/core/src/packet.rs: packet may not import probe"],
                "{text}"
            );
        }
    }

    #[test]
    fn a_submodule_with_a_row_of_its_own_is_not_part_of_its_parent() {
        let render = "prober/core/src/report/render/html.rs";
        assert_eq!(found(render, "use crate::report::Report;").len(), 0);
        assert_eq!(found(render, "use crate::probe::Outcome;").len(), 1);
        assert_eq!(
            found("prober/core/src/report/path.rs", "use super::render::text;").len(),
            1
        );
    }

    #[test]
    fn super_leaves_a_module_only_at_its_root() {
        let tcp = "prober/core/src/packet/tcp.rs";
        assert_eq!(found(tcp, "use super::ip::Header;").len(), 0);
        assert_eq!(found(tcp, "use super::super::probe::Outcome;").len(), 1);
    }

    #[test]
    fn tests_may_import_anything() {
        let text = "//! P.\nfn a() {}\n#[cfg(test)]\nmod tests { use crate::probe::Outcome; }\n";
        assert_eq!(found("prober/core/src/packet.rs", text).len(), 0);
        assert_eq!(
            found(
                "prober/core/src/packet/tests.rs",
                "use crate::probe::Outcome;"
            )
            .len(),
            0
        );
    }

    #[test]
    fn an_external_crate_is_found_outside_its_module() {
        assert_eq!(
            found("prober/core/src/report/render/html.rs", "use maud::html;").len(),
            0
        );
        assert_eq!(
            found("prober/core/src/report.rs", "use maud::html;").len(),
            1
        );
    }

    #[test]
    fn io_is_found_in_a_pure_module() {
        assert_eq!(
            found("controller/src/sender.rs", "use tokio::time::sleep;").len(),
            0
        );
        for text in [
            "use tokio::time::sleep;",
            "use kube::{Api, Resource};",
            "fn a() { std::fs::read(b) }",
        ] {
            assert_eq!(found("controller/src/packet.rs", text).len(), 1, "{text}");
        }
        assert_eq!(
            found("controller/src/packet.rs", "use kube::Resource;").len(),
            0
        );
    }

    #[test]
    fn a_new_module_needs_a_row() {
        assert_eq!(found("prober/core/src/new.rs", "//! New.").len(), 1);
    }

    #[test]
    fn no_row_imports_itself_through_others_and_no_pure_row_imports_io() {
        for table in [CORE, CONTROLLER] {
            let table = Table::parse(table);
            for (name, row) in &table.0 {
                let mut reached: BTreeSet<&String> = BTreeSet::new();
                let mut next = vec![name];
                while let Some(module) = next.pop() {
                    let Some(known) = table.0.get(module) else {
                        panic!("{module} has no row");
                    };
                    for import in &known.imports {
                        assert_ne!(import, name, "{name} imports itself through {module}");
                        if reached.insert(import) {
                            next.push(import);
                        }
                    }
                }
                let io: Vec<&&String> = reached
                    .iter()
                    .filter(|import| table.0[**import].does_io)
                    .collect();
                assert!(
                    row.does_io || io.is_empty(),
                    "{name} is pure and imports {io:?}"
                );
            }
        }
    }
}
