//! The data of each probe in flight that its handshake does not hold, by source address and port.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use prober_net::rst_suppression::SuppressedPort;

use crate::engine::events::PlanId;

/// A probe in flight, beside its handshake.
#[derive(Debug)]
pub(super) struct ProbeContext {
    /// Its plan.
    pub(super) id: PlanId,
    /// Whether it goes on after the handshake, so that its packets must be read at once.
    pub(super) exchanges: bool,
    /// Suppresses RST on its port.
    pub(super) suppressed: Option<SuppressedPort>,
    /// The reason why it was not sent, if so.
    pub(super) not_sent: Option<String>,
}

impl ProbeContext {
    /// A probe of this plan that ends with its handshake.
    pub(super) const fn of(id: PlanId) -> Self {
        Self {
            id,
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
    /// The number of those that go on after the handshake.
    exchanging: usize,
}

impl ProbeContexts {
    /// A source belongs to a new probe.
    pub(super) fn insert(&mut self, src: SocketAddr, context: ProbeContext) {
        self.exchanging += usize::from(context.exchanges);
        let before = self.by_source.insert(src, context);
        self.uncount(before.as_ref());
    }

    /// Whether a source belongs to a probe.
    pub(super) fn contains(&self, src: SocketAddr) -> bool {
        self.by_source.contains_key(&src)
    }

    /// Removes the probe of a source.
    pub(super) fn remove(&mut self, src: SocketAddr) -> Option<ProbeContext> {
        let context = self.by_source.remove(&src);
        self.uncount(context.as_ref());
        context
    }

    /// The probe of this source was not sent, for this reason.
    pub(super) fn mark_not_sent(&mut self, src: SocketAddr, why: String) {
        if let Some(context) = self.by_source.get_mut(&src) {
            context.not_sent = Some(why);
        }
    }

    /// Removes all probes.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether any probe goes on after its handshake.
    pub(super) const fn has_exchanges(&self) -> bool {
        self.exchanging > 0
    }

    fn uncount(&mut self, context: Option<&ProbeContext>) {
        self.exchanging -= usize::from(context.is_some_and(|context| context.exchanges));
    }
}
