//! Whose the source ports in flight are, and whether any of their probes waits for an answer to go on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use prober_net::rst_suppression::MutedPort;

/// A probe in flight, besides what the flight knows of it.
#[derive(Debug)]
pub(super) struct Owned {
    /// The plan that it is of.
    pub(super) generation: u32,
    /// Whether it says something more when it is answered.
    pub(super) talks: bool,
    /// Its port, if the kernel is kept silent on it.
    pub(super) muted: Option<MutedPort>,
    /// Why it was never sent, if so.
    pub(super) withdrawn: Option<String>,
}

impl Owned {
    /// A probe of that plan that says nothing more when it is answered.
    pub(super) const fn of(generation: u32) -> Self {
        Self {
            generation,
            talks: false,
            muted: None,
            withdrawn: None,
        }
    }
}

/// All probes in flight, by their source.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_source: BTreeMap<SocketAddr, Owned>,
    /// Those that talk.
    talking: usize,
}

impl Owners {
    /// A source has an owner from now on, and its last one no more.
    pub(super) fn insert(&mut self, src: SocketAddr, owned: Owned) {
        self.talking += usize::from(owned.talks);
        let before = self.by_source.insert(src, owned);
        self.forget(before.as_ref());
    }

    /// Whether a source has an owner.
    pub(super) fn have(&self, src: SocketAddr) -> bool {
        self.by_source.contains_key(&src)
    }

    /// A source has no owner any more.
    pub(super) fn remove(&mut self, src: SocketAddr) -> Option<Owned> {
        let owned = self.by_source.remove(&src);
        self.forget(owned.as_ref());
        owned
    }

    /// Nothing of that source was sent, for that reason.
    pub(super) fn withdraw(&mut self, src: SocketAddr, why: String) {
        if let Some(owned) = self.by_source.get_mut(&src) {
            owned.withdrawn = Some(why);
        }
    }

    /// No source has an owner any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether a probe in flight waits for an answer to go on.
    pub(super) const fn wait_for_answers(&self) -> bool {
        self.talking > 0
    }

    fn forget(&mut self, owned: Option<&Owned>) {
        self.talking -= usize::from(owned.is_some_and(|owned| owned.talks));
    }
}
