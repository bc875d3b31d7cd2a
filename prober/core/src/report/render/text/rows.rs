//! Rows in columns that are as wide as what they hold, and no wider together than the terminal where that can be had.

use super::super::{Text, Tone};

/// The names of a row: what is probed.
const NAMES: usize = 4;

/// The columns of a row: its names, then its figures.
const COLUMNS: usize = NAMES + 4;

/// The name that a table of one family leaves out.
const FAMILY: usize = 2;

/// Columns in the order in which a narrow terminal does without them: first SYN, lost.
const SPARED: [usize; 2] = [NAMES + 2, NAMES + 1];

/// One row.
pub(super) struct Row {
    /// What stands before it.
    pub sign: &'static str,
    /// How it does.
    pub tone: Tone,
    /// What is probed.
    pub names: [String; NAMES],
    /// What came of the probes.
    pub outcome: String,
    /// The share that was lost.
    pub lost: String,
    /// The share that the first SYN established.
    pub first_syn: String,
    /// Round trips.
    pub rtt: String,
    /// What stands behind it.
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
    /// An empty table; a name without a head has no column.
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

    /// Leaves out the family.
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

    /// Writes the table, at most `width` wide if it can be, without the columns that can be spared if it must.
    pub(super) fn write(mut self, text: &mut Text, width: usize) {
        let widths = self.widths();
        for spared in SPARED {
            if self.whole_width(&widths) > width {
                self.hide(spared);
            }
        }
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

    fn whole_width(&self, widths: &[usize; COLUMNS]) -> usize {
        let shown = widths.iter().zip(self.hidden).filter(|(_, hidden)| !hidden);
        1 + shown.map(|(width, _)| width + 1).sum::<usize>()
    }

    /// Cells, padded; those of hidden columns are empty.
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
