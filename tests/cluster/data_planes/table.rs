//! The table of verdicts in `docs/data-planes.md`: the trials write it, and a test compares its rows with theirs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Plane, Verdict, planes};
use crate::harness::Shape;

/// Set to write the verdicts of trials into the document.
const WRITE: &str = "PROBER_WRITE_TABLE";

/// What a cell says that has no verdict.
const NOTHING: &str = "nothing";
/// A row that a cluster cannot have.
const NOT_TRIED: &str = "–";
/// A row that no trial has filled.
const NOT_RUN: &str = "not run";

/// The data planes whose table is not written yet. The list may only shrink: one that has a table fails the test.
const PENDING: &[&str] = &[
    "cilium",
    "cilium-native",
    "cilium-kube-proxy",
    "cilium-hostns",
];

/// The cells of a data plane, by row and column.
type Cells = BTreeMap<(String, String), String>;

/// Writes the verdicts of a trial into the document, if the environment says so.
///
/// # Errors
///
/// The document cannot be read or written.
pub(super) fn record(shape: Shape, row: &str, verdicts: &[Verdict]) -> std::io::Result<()> {
    if std::env::var_os(WRITE).is_none_or(|value| value != "1") {
        return Ok(());
    }
    let cell = if verdicts.is_empty() {
        NOTHING.to_owned()
    } else {
        let verdicts: Vec<String> = verdicts.iter().map(Verdict::to_string).collect();
        verdicts.join("; ")
    };
    let mut text = std::fs::read_to_string(document())?;
    for plane in planes() {
        if plane.name == shape.data_plane {
            let mut cells = read(&text, plane.name);
            cells.insert((row.to_owned(), shape.column()), cell.clone());
            text = replace(&text, plane.name, &render(&plane, &cells));
        }
    }
    std::fs::write(document(), text)
}

/// Fails unless the document has exactly the rows of the trials, and each says what its trial accepts.
pub(crate) fn is_current() -> Result<(), libtest_mimic::Failed> {
    let text = std::fs::read_to_string(document())?;
    for plane in planes() {
        match (PENDING.contains(&plane.name), section(&text, plane.name)) {
            (true, None) => continue,
            (true, Some(_)) => {
                return Err(format!("{} has a table: it is not pending", plane.name).into());
            }
            (false, _) => {}
        }
        let cells = read(&text, plane.name);
        let expected = render(&plane, &cells);
        if section(&text, plane.name) != Some(expected.as_str()) {
            return Err(format!(
                "docs/data-planes.md has other rows for {} than its trials, or in another order: {WRITE}=1 make test-cluster DATA_PLANE={0}",
                plane.name
            )
            .into());
        }
        for row in plane.all_rows() {
            for shape in plane
                .shapes
                .iter()
                .filter(|shape| plane.tries(&row, **shape))
            {
                let cell = cells.get(&(row.label(), shape.column()));
                let verdicts = cell.map_or(Err("no cell".to_owned()), |cell| verdicts(cell));
                verdicts
                    .and_then(|verdicts| row.accept(&verdicts))
                    .map_err(|wrong| {
                        format!(
                            "docs/data-planes.md, {}, {}: {wrong}",
                            plane.name,
                            shape.column()
                        )
                    })?;
            }
        }
    }
    Ok(())
}

fn document() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/data-planes.md")
}

fn verdicts(cell: &str) -> Result<Vec<Verdict>, String> {
    if cell == NOTHING {
        return Ok(Vec::new());
    }
    cell.split("; ").map(str::parse).collect()
}

/// The lines before and after the table of a data plane.
fn marks(plane: &str) -> [String; 2] {
    [
        format!("<!-- {plane}: written by the trials -->\n"),
        format!("<!-- end of {plane} -->"),
    ]
}

/// The table of a data plane in the document.
fn section<'a>(text: &'a str, plane: &str) -> Option<&'a str> {
    let [begin, end] = marks(plane);
    let (_, rest) = text.split_once(&begin)?;
    rest.split_once(&end).map(|(table, _)| table)
}

fn replace(text: &str, plane: &str, table: &str) -> String {
    let [begin, end] = marks(plane);
    match section(text, plane) {
        Some(old) => text.replace(
            &format!("{begin}{old}{end}"),
            &format!("{begin}{table}{end}"),
        ),
        None => format!("{text}\n### {plane}\n\n{begin}{table}{end}\n"),
    }
}

/// The cells of a data plane in the document.
fn read(text: &str, plane: &str) -> Cells {
    let mut lines = section(text, plane).unwrap_or_default().lines();
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_matches(['|', ' ']);
        line.split(" | ").map(str::to_owned).collect()
    };
    let columns = lines.next().map(cells).unwrap_or_default();
    let rows = lines.skip(1).map(cells);
    rows.flat_map(|row| {
        let label = row.first().cloned().unwrap_or_default();
        let columns = columns.clone();
        (columns.into_iter().zip(row).skip(1))
            .map(move |(column, cell)| ((label.clone(), column), cell))
            .collect::<Vec<_>>()
    })
    .collect()
}

/// The table of a data plane: its rows in the order of the trials, a column for each cluster.
fn render(plane: &Plane, cells: &Cells) -> String {
    let columns: Vec<String> = plane.shapes.iter().map(|shape| shape.column()).collect();
    let head = format!("| fault | {} |", columns.join(" | "));
    let line = format!("|{}", " --- |".repeat(columns.len() + 1));
    let rows = plane.all_rows().into_iter().map(|row| {
        let row_cells = plane.shapes.iter().map(|shape| {
            if !plane.tries(&row, *shape) {
                return NOT_TRIED;
            }
            let cell = cells.get(&(row.label(), shape.column()));
            cell.map_or(NOT_RUN, String::as_str)
        });
        let row_cells: Vec<&str> = row_cells.collect();
        format!("| {} | {} |", row.label(), row_cells.join(" | "))
    });
    let lines: Vec<String> = [head, line].into_iter().chain(rows).collect();
    lines.join("\n") + "\n"
}
