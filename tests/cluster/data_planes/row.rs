//! A fault on a data plane, and what the report of a run may say.

use std::fmt;
use std::str::FromStr;

use crate::harness::{Policies, Shape};

/// A diagnosis of a report: `forward-drop@node-1 proven`, `forward-drop@node-1 consistent, or network-blocked`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Verdict {
    pub(super) cause: String,
    /// A node, `node-1->node-2`, or the kind of another place.
    pub(super) place: String,
    pub(super) is_proven: bool,
    /// Other causes that the report says to have the same symptoms.
    pub(super) rivals: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let confidence = if self.is_proven {
            "proven"
        } else {
            "consistent"
        };
        write!(out, "{}@{} {confidence}", self.cause, self.place)?;
        (self.rivals.iter()).try_for_each(|rival| write!(out, ", or {rival}"))
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(", or ");
        let first = parts.next().unwrap_or_default().split_once(' ');
        let first =
            first.and_then(|(place, confidence)| Some((place.split_once('@')?, confidence)));
        match first {
            Some(((cause, place), confidence @ ("proven" | "consistent"))) => Ok(Self {
                cause: cause.to_owned(),
                place: place.to_owned(),
                is_proven: confidence == "proven",
                rivals: parts.map(str::to_owned).collect(),
            }),
            Some(_) | None => Err(format!("no verdict: {text:?}")),
        }
    }
}

/// When a fault is injected, and into what.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// Before the run, with this target of the fault; empty for most.
    BeforeTheRun(&'static str),
    /// As soon as the pod of the run with this end of its name runs; the pod is the target.
    WithThePod(&'static str),
}

/// A fault, the truth, and what a report may say beside it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Its name in `fault list`; that of a healthy row is its label.
    label: String,
    pub(super) fault: &'static str,
    pub(super) node: &'static str,
    pub(super) when: When,
    /// Causes and places that the report must name.
    truth: Vec<(&'static str, &'static str)>,
    /// Causes and places that it may call *consistent* as well.
    fits: Vec<(&'static str, &'static str)>,
    needs_policies: bool,
    is_on_each: bool,
}

/// A fault on a node. Without a truth, nothing is broken, and the report names nothing.
pub(super) fn row(fault: &'static str, node: &'static str) -> Row {
    Row {
        label: format!("{fault}@{node}"),
        fault,
        node,
        when: When::BeforeTheRun(""),
        truth: Vec::new(),
        fits: Vec::new(),
        needs_policies: false,
        is_on_each: false,
    }
}

impl Row {
    /// No fault.
    pub(super) fn healthy(label: String) -> Self {
        Self {
            label,
            ..row("", "")
        }
    }

    /// The report must name this cause at this place, or as a rival of one that is *consistent* there. Of several causes or
    /// places, as in `node-1|node-1->node-2`, one is enough.
    pub(super) fn is(mut self, cause: &'static str, place: &'static str) -> Self {
        self.truth.push((cause, place));
        self
    }

    /// The report may name this cause as well, as *consistent*.
    pub(super) fn fits(mut self, cause: &'static str, place: &'static str) -> Self {
        self.fits.push((cause, place));
        self
    }

    /// Its time and target.
    pub(super) const fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// It needs a cluster that enforces NetworkPolicies, and is not tried on others.
    pub(super) const fn needs_policies(mut self) -> Self {
        self.needs_policies = true;
        self
    }

    /// It is tried on each cluster of the data plane, not on the first one alone: their difference may matter.
    pub(super) const fn on_each(mut self) -> Self {
        self.is_on_each = true;
        self
    }

    /// Its name in the table.
    pub(super) fn label(&self) -> String {
        self.label.clone()
    }

    /// Whether it is tried on this cluster of a data plane, whose first one is given as well. What needs policies is tried on
    /// those that enforce them, and only that: the engine's rules come before those of other faults.
    pub(super) fn is_on(&self, shape: Shape, first: Shape) -> bool {
        let is_chosen = self.is_on_each || self.needs_policies || shape == first;
        let is_possible = self.needs_policies == (shape.policies == Policies::Enforced);
        self.fault.is_empty() || is_chosen && is_possible
    }

    /// Fails unless these are what a report may say.
    pub(super) fn accept(&self, verdicts: &[Verdict]) -> Result<(), String> {
        let said: Vec<String> = verdicts.iter().map(Verdict::to_string).collect();
        let wrong = |what: &str| Err(format!("{}: {what}: {}", self.label, said.join("; ")));
        if self.proves_falsely(verdicts) {
            return wrong("what is proven is FALSE");
        }
        let fits = |verdict: &Verdict| {
            let mut truths = self.truth.iter().chain(&self.fits);
            truths.any(|truth| names(verdict, truth))
        };
        if !verdicts.iter().all(fits) {
            return wrong("a cause does not fit");
        }
        let is_named = |truth| verdicts.iter().any(|verdict| names(verdict, truth));
        if !self.truth.iter().all(is_named) {
            return wrong("the truth is not named");
        }
        Ok(())
    }

    /// Whether one of these is *proven* and not the truth.
    pub(super) fn proves_falsely(&self, verdicts: &[Verdict]) -> bool {
        let is_true = |verdict: &Verdict| self.truth.iter().any(|truth| names(verdict, truth));
        let mut proven = verdicts.iter().filter(|verdict| verdict.is_proven);
        !proven.all(is_true)
    }
}

/// Whether a verdict is this cause at this place, or is *consistent* there and calls it a rival.
fn names(verdict: &Verdict, (causes, places): &(&str, &str)) -> bool {
    let is_one = |found: &str, of: &str| of.split('|').any(|one| one == found);
    let mut rivals = verdict.rivals.iter();
    is_one(&verdict.place, places)
        && (is_one(&verdict.cause, causes)
            || !verdict.is_proven && rivals.any(|rival| is_one(rival, causes)))
}
