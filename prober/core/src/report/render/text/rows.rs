//! A table whose columns are as wide as their longest cell, and which drops columns on a narrow terminal.

use super::super::{Text, Tone};

/// The number of columns that name what a row is about.
const NAMES: usize = 4;

/// The number of columns: the names, then the statistics.
const COLUMNS: usize = NAMES + 4;

/// The index of the scope's column, which a narrow terminal shortens first.
const SCOPE: usize = 1;

/// The index of the family's column, which a table of a single family omits.
const FAMILY: usize = 2;

/// The index of the column of lost shares. A narrow terminal omits their intervals fourth, the column fifth.
const LOST: usize = NAMES + 1;

/// The index of the column of first SYNs, which a narrow terminal omits second.
const FIRST_SYN: usize = NAMES + 2;

/// The index of the column of round-trip times. A narrow terminal omits their 99th percentiles third.
const RTT: usize = NAMES + 3;

/// What separates the median of round-trip times from the 99th percentile.
const RTT_SEPARATOR: &str = " / ";

/// One row.
pub(super) struct Row {
    /// The symbol before the row.
    pub sign: &'static str,
    /// The tone of its symbol and outcome.
    pub tone: Tone,
    /// The names of what is probed.
    pub names: [String; NAMES],
    /// The outcomes of the probes.
    pub outcome: String,
    /// The share of lost probes.
    pub lost: String,
    /// The share of probes whose first SYN established a connection.
    pub first_syn: String,
    /// The round-trip times: median and 99th percentile.
    pub rtt: String,
    /// The remark after the row.
    pub remark: &'static str,
}

impl Row {
    fn cells(&self) -> [&str; COLUMNS] {
        let [first, second, third, fourth] = &self.names;
        [
            first,
            second,
            third,
            fourth,
            &self.outcome,
            &self.lost,
            &self.first_syn,
            &self.rtt,
        ]
    }
}

/// A line of the table.
enum Line {
    Heading(Tone, String),
    Row(Box<Row>),
}

/// Rows under headings.
pub(super) struct Table {
    heads: [&'static str; COLUMNS],
    hidden: [bool; COLUMNS],
    lines: Vec<Line>,
}

impl Table {
    /// An empty table with these headings of the name columns; an empty heading hides its column.
    pub(super) fn new([first, second, third, fourth]: [&'static str; NAMES]) -> Self {
        let heads = [
            first,
            second,
            third,
            fourth,
            "outcome",
            "lost",
            "1st SYN",
            "p50 / p99",
        ];
        Self {
            heads,
            hidden: heads.map(str::is_empty),
            lines: Vec::new(),
        }
    }

    /// Hides the column of the family.
    pub(super) fn hide_family(&mut self) {
        self.hide(FAMILY);
    }

    /// Adds a heading.
    pub(super) fn heading(&mut self, tone: Tone, heading: String) {
        self.lines.push(Line::Heading(tone, heading));
    }

    /// Adds a row.
    pub(super) fn row(&mut self, row: Row) {
        self.lines.push(Line::Row(Box::new(row)));
    }

    /// Adds the table to `text`. If it is wider than `width` columns, it omits in this order, as needed: `-node` of scopes,
    /// first SYNs, 99th percentiles, the intervals of lost shares, lost shares.
    pub(super) fn write(mut self, text: &mut Text, width: usize) {
        let steps: [fn(&mut Self); 5] = [
            Self::shorten_scopes,
            |table| table.hide(FIRST_SYN),
            Self::omit_percentiles,
            Self::omit_intervals,
            |table| table.hide(LOST),
        ];
        for step in steps {
            if self.whole_width() > width {
                step(&mut self);
            }
        }
        let widths = self.widths();
        let has_rows = self.lines.iter().any(|line| matches!(line, Line::Row(_)));
        if has_rows {
            let heads = self.joined(&self.heads, &widths);
            text.put(Tone::Faint, format!("  {}", heads.concat())).end();
        }
        for line in &self.lines {
            match line {
                Line::Heading(tone, heading) => text.wrapped(*tone, "", heading),
                Line::Row(row) => {
                    let cells = self.joined(&row.cells(), &widths);
                    let (names, figures) = cells.split_at(NAMES);
                    let (outcome, rest) = figures.split_at(1);
                    text.put(row.tone, row.sign)
                        .plain(names.concat())
                        .put(row.tone, outcome.concat())
                        .plain(rest.concat())
                        .put(Tone::Faint, row.remark)
                        .end()
                }
            };
        }
    }

    fn hide(&mut self, column: usize) {
        if let Some(hidden) = self.hidden.get_mut(column) {
            *hidden = true;
        }
    }

    /// The rows, without the headings between them.
    fn rows(&mut self) -> impl Iterator<Item = &mut Row> {
        self.lines.iter_mut().filter_map(|line| match line {
            Line::Row(row) => Some(row.as_mut()),
            Line::Heading(..) => None,
        })
    }

    /// Writes the scopes `same-node` and `cross-node` as `same` and `cross`.
    fn shorten_scopes(&mut self) {
        for row in self.rows() {
            truncate(&mut row.names[SCOPE], "-node");
        }
    }

    /// Omits the 99th percentiles of round-trip times.
    fn omit_percentiles(&mut self) {
        self.heads[RTT] = "p50";
        for row in self.rows() {
            truncate(&mut row.rtt, RTT_SEPARATOR);
        }
    }

    /// Omits the intervals of lost shares.
    fn omit_intervals(&mut self) {
        for row in self.rows() {
            truncate(&mut row.lost, " (");
        }
    }

    /// The longest cell of each column.
    fn widths(&self) -> [usize; COLUMNS] {
        let mut widths = self.heads.map(str::len);
        for line in &self.lines {
            if let Line::Row(row) = line {
                for (width, cell) in widths.iter_mut().zip(row.cells()) {
                    *width = (*width).max(cell.chars().count());
                }
            }
        }
        widths
    }

    fn whole_width(&self) -> usize {
        let widths = self.widths();
        let shown = widths.iter().zip(self.hidden).filter(|(_, hidden)| !hidden);
        1 + shown.map(|(width, _)| width + 1).sum::<usize>()
    }

    /// The cells, padded to `widths`; those of hidden columns are empty.
    fn joined(&self, cells: &[&str; COLUMNS], widths: &[usize; COLUMNS]) -> Vec<String> {
        let columns = cells.iter().zip(widths).zip(self.hidden);
        columns
            .map(|((cell, &width), hidden)| {
                if hidden {
                    String::new()
                } else {
                    format!("{cell:<width$} ")
                }
            })
            .collect()
    }
}

/// Cuts a cell off before `mark`.
fn truncate(cell: &mut String, mark: &str) {
    if let Some(end) = cell.find(mark) {
        cell.truncate(end);
    }
}
