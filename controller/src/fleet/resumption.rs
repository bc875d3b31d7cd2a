//! Which lines of a log are new, when it is read from its start again after its stream broke.
//!
//! A followed log ends without an error when a kubelet stops, and the agent goes on writing meanwhile. A run's logs are
//! small and their lines never change, so what was taken is skipped by its number: nothing is lost, nothing comes twice. A
//! log that no longer starts with the line it started with was rotated, and what it says cannot be told from what was
//! taken.

/// How far a log was taken.
#[derive(Debug, Default)]
pub(super) struct Resumption {
    first: Option<Vec<u8>>,
    taken: usize,
    seen: usize,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// One that was not taken before.
    New(&'a [u8]),
    /// One that was.
    Known,
    /// The first one of a log that was rotated: from here on some may be missing.
    Rotated(&'a [u8]),
    /// The beginning of one whose end has not been read.
    Partial,
}

impl Resumption {
    /// The log is read from its start, again.
    pub(super) fn restart(&mut self) {
        self.seen = 0;
    }

    /// Takes what was read up to a newline or the end of the stream.
    pub(super) fn take<'a>(&mut self, read: &'a [u8]) -> Line<'a> {
        let Some(line) = read.strip_suffix(b"\n") else {
            return Line::Partial;
        };
        self.seen += 1;
        if self.seen == 1 {
            match &self.first {
                None => self.first = Some(line.to_vec()),
                Some(first) if first != line => {
                    self.first = Some(line.to_vec());
                    self.taken = 1;
                    return Line::Rotated(line);
                }
                Some(_) => {}
            }
        }
        if self.seen <= self.taken {
            return Line::Known;
        }
        self.taken = self.seen;
        Line::New(line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads `log` up to each of `cuts` in turn, and then whole.
    fn read(log: &[u8], cuts: &[usize]) -> Vec<String> {
        let mut resumption = Resumption::default();
        let mut told = Vec::new();
        for end in cuts.iter().copied().chain([log.len()]) {
            resumption.restart();
            for piece in log[..end.min(log.len())].split_inclusive(|&byte| byte == b'\n') {
                match resumption.take(piece) {
                    Line::New(line) => told.push(String::from_utf8(line.to_vec()).unwrap()),
                    Line::Known | Line::Partial => {}
                    Line::Rotated(line) => panic!("{line:?} is no rotation"),
                }
            }
        }
        told
    }

    proptest! {
        #[test]
        fn a_log_that_breaks_anywhere_and_any_number_of_times_is_told_whole_and_once(
            lines in proptest::collection::vec("[a-z]{0,6}", 0..20),
            cuts in proptest::collection::vec(0_usize..150, 0..8),
        ) {
            let log: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            prop_assert_eq!(read(log.as_bytes(), &cuts), lines);
        }
    }

    #[test]
    fn a_log_that_starts_with_another_line_was_rotated() {
        let mut resumption = Resumption::default();
        assert_eq!(resumption.take(b"one\n"), Line::New(b"one"));
        assert_eq!(resumption.take(b"two\n"), Line::New(b"two"));
        resumption.restart();
        assert_eq!(resumption.take(b"three\n"), Line::Rotated(b"three"));
        assert_eq!(resumption.take(b"four\n"), Line::New(b"four"));
        resumption.restart();
        assert_eq!(resumption.take(b"three\n"), Line::Known);
    }
}
