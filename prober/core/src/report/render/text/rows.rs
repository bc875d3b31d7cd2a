//! A table whose columns are as wide as their longest cell, and which drops columns on a narrow terminal.

use super::super::{Text, Tone};

/// The number of columns that name what a row is about.
const NAMES: usize = 4;

/// The number of columns: the names, then the statistics.
const COLUMNS: usize = NAMES + 4;

/// The index of the family's column, which a table of a single family omits.
const FAMILY: usize = 2;

/// The index of the column of lost shares. A narrow terminal omits their intervals second, the column third.
const LOST: usize = NAMES + 1;

/// The index of the column of first SYNs, which a narrow terminal omits first.
const FIRST_SYN: usize = NAMES + 2;

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

    /// Adds the table to `text`. If it is wider than `width` columns, it omits in this order, as
    /// needed: first SYNs, the intervals of lost shares, lost shares.
    pub(super) fn write(mut self, text: &mut Text, width: usize) {
        if self.whole_width() > width {
            self.hide(FIRST_SYN);
        }
        if self.whole_width() > width {
            self.shorten_lost();
        }
        if self.whole_width() > width {
            self.hide(LOST);
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

    /// Omits the intervals of lost shares.
    fn shorten_lost(&mut self) {
        for line in &mut self.lines {
            if let Line::Row(row) = line
                && let Some(interval) = row.lost.find(" (")
            {
                row.lost.truncate(interval);
            }
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
