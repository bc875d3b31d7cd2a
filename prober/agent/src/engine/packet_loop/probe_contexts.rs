//! Whose the source ports in flight are, and whether any of their probes waits for an answer to go on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use prober_net::rst_suppression::SuppressedPort;

/// A probe in flight, besides what the flight knows of it.
#[derive(Debug)]
pub(super) struct ProbeContext {
    /// The plan that it is of.
    pub(super) generation: u32,
    /// Whether it says something more when it is answered.
    pub(super) exchanges: bool,
    /// Its port, if the kernel is kept silent on it.
    pub(super) suppressed: Option<SuppressedPort>,
    /// Why it was never sent, if so.
    pub(super) not_sent: Option<String>,
}

impl ProbeContext {
    /// A probe of that plan that says nothing more when it is answered.
    pub(super) const fn of(generation: u32) -> Self {
        Self {
            generation,
            exchanges: false,
            suppressed: None,
            not_sent: None,
        }
    }
}

/// All probes in flight, by their source.
#[derive(Debug, Default)]
pub(super) struct ProbeContexts {
    by_source: BTreeMap<SocketAddr, ProbeContext>,
    /// Those that talk.
    exchanging: usize,
}

impl ProbeContexts {
    /// A source has an owner from now on, and its last one no more.
    pub(super) fn insert(&mut self, src: SocketAddr, context: ProbeContext) {
        self.exchanging += usize::from(context.exchanges);
        let before = self.by_source.insert(src, context);
        self.uncount(before.as_ref());
    }

    /// Whether a source has an owner.
    pub(super) fn contains(&self, src: SocketAddr) -> bool {
        self.by_source.contains_key(&src)
    }

    /// A source has no owner any more.
    pub(super) fn remove(&mut self, src: SocketAddr) -> Option<ProbeContext> {
        let context = self.by_source.remove(&src);
        self.uncount(context.as_ref());
        context
    }

    /// Nothing of that source was sent, for that reason.
    pub(super) fn mark_not_sent(&mut self, src: SocketAddr, why: String) {
        if let Some(context) = self.by_source.get_mut(&src) {
            context.not_sent = Some(why);
        }
    }

    /// No source has an owner any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether a probe in flight waits for an answer to go on.
    pub(super) const fn has_exchanges(&self) -> bool {
        self.exchanging > 0
    }

    fn uncount(&mut self, context: Option<&ProbeContext>) {
        self.exchanging -= usize::from(context.is_some_and(|context| context.exchanges));
    }
}
