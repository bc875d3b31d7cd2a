//! A probe as a trace: what its two ends saw, each by itself, joined under one root.

use prober_core::report::{DiagnosisReport, PathReport, ProbeReport, Report};

/// The spans of one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    spans: Vec<()>,
}

/// What a trace is made from.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The path that was probed.
    pub path: &'a PathReport,
    /// The probe.
    pub probe: &'a ProbeReport,
    /// What explains it; `None` for a healthy one.
    pub diagnosis: Option<&'a DiagnosisReport>,
}

impl Trace {
    /// The trace of one probe; `seed` names it, and the same seed names it the same.
    pub fn of(told: Told<'_>, seed: u64) -> Self {
        let _ = (told, seed);
        Self { spans: Vec::new() }
    }

    /// The traces of a report: one for each diagnosis that can show a probe.
    pub fn of_report(report: &Report, seed: u64) -> Vec<Self> {
        let _ = (report, seed);
        Vec::new()
    }

    /// How many spans it has.
    pub fn len(&self) -> usize {
        self.spans.len()
    }
}
