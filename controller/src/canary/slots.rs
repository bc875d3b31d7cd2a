//! Which server of the cluster has which slot of the Service `prober`.
//!
//! A cluster may have more servers than slots: a slot costs every node a rule. Slots before `FIRST_RESERVED_SLOT` rotate over
//! all servers in the order of their nodes' names, so that each has one in turn. The others are reserved for servers that an
//! examination needs and that have none. No server has two: Cilium keeps a backend by address and port, and of two slices that
//! name it the later one takes the port names of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use prober_core::topology::NodeName;

use crate::manifest::standing::FIRST_RESERVED_SLOT;
use crate::manifest::{MAX_SLOTS, ServerEndpoint};

/// The slots, and the examinations that use them.
#[derive(Clone, Debug)]
pub struct SlotTable {
    slots: Vec<Slot>,
    /// The node whose server got a rotating slot last.
    last: Option<NodeName>,
    /// The rotating slot that is next to change its server.
    next: usize,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    server: Option<ServerEndpoint>,
    /// The runs that use it. It keeps its server meanwhile.
    runs: BTreeSet<String>,
}

impl Default for SlotTable {
    fn default() -> Self {
        Self {
            slots: vec![Slot::default(); usize::from(MAX_SLOTS)],
            last: None,
            next: 0,
        }
    }
}

impl SlotTable {
    /// The slots as an earlier controller assigned them, by number. Reserved ones are free: its examinations have ended.
    pub fn restore(assigned: impl IntoIterator<Item = (u16, ServerEndpoint)>) -> Self {
        let mut table = Self::default();
        for (number, server) in assigned {
            let free = table.slot_of(&server.agent.pod).is_none();
            if let Some(slot) = rotating().nth(usize::from(number)).filter(|_| free) {
                table.last = Some(server.agent.node.clone());
                table.slots[slot].server = Some(server);
            }
        }
        table
    }

    /// Applies the servers that run, one for each node: a slot follows its node's server to a new pod, a node without a server
    /// loses its slot, and free rotating slots get servers without one.
    pub fn update(&mut self, servers: &BTreeMap<NodeName, ServerEndpoint>) {
        for slot in &mut self.slots {
            slot.server =
                (slot.server.take()).and_then(|old| servers.get(&old.agent.node).cloned());
        }
        for slot in rotating() {
            if self.slots[slot].server.is_none() {
                self.assign_next(slot, servers, &BTreeSet::new());
            }
        }
    }

    /// Gives up to `count` rotating slots that no examination uses to servers without one. With a slot for every server nothing
    /// changes.
    pub fn rotate(&mut self, servers: &BTreeMap<NodeName, ServerEndpoint>, count: usize) {
        // A server that loses its slot gets none at the same time, which would be two until both are written.
        let held: BTreeSet<String> = (self.slots())
            .filter_map(|(_, server)| Some(server?.agent.pod.clone()))
            .collect();
        for _ in 0..count.min(usize::from(FIRST_RESERVED_SLOT)) {
            let slot = self.next;
            self.next = (slot + 1) % usize::from(FIRST_RESERVED_SLOT);
            if self.slots[slot].runs.is_empty() {
                self.assign_next(slot, servers, &held);
            }
        }
    }

    /// Makes a server keep its slot while `run` uses it, or gives it a reserved one; `None` if none is free.
    pub fn reserve(&mut self, run: &str, server: &ServerEndpoint) -> Option<u16> {
        let is_of = |slot: &Slot| {
            (slot.server.as_ref()).is_some_and(|owner| owner.agent.pod == server.agent.pod)
        };
        let is_free = |slot: &Slot| slot.server.is_none() && slot.runs.is_empty();
        let first_reserved = usize::from(FIRST_RESERVED_SLOT);
        let own = self.slots.iter().position(is_of);
        let number = own.or_else(|| {
            let free = self.slots.iter().skip(first_reserved).position(is_free);
            free.map(|free| first_reserved + free)
        })?;
        let slot = &mut self.slots[number];
        slot.server = Some(server.clone());
        slot.runs.insert(run.to_owned());
        u16::try_from(number).ok()
    }

    /// Ends the use of slots by `run`. A reserved slot that no run uses is free.
    pub fn release(&mut self, run: &str) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            slot.runs.remove(run);
            if number >= usize::from(FIRST_RESERVED_SLOT) && slot.runs.is_empty() {
                slot.server = None;
            }
        }
    }

    /// The slot of a server.
    pub fn slot_of(&self, pod: &str) -> Option<u16> {
        let is_of =
            |slot: &Slot| (slot.server.as_ref()).is_some_and(|server| server.agent.pod == pod);
        let number = self.slots.iter().position(is_of)?;
        u16::try_from(number).ok()
    }

    /// Every slot with its server, by number.
    pub fn slots(&self) -> impl Iterator<Item = (u16, Option<&ServerEndpoint>)> {
        (0..).zip(self.slots.iter().map(|slot| slot.server.as_ref()))
    }

    /// The rotating slots that have a server, by number: those of the standing plan, and the endpoints of the balanced port.
    pub fn standing(&self) -> impl Iterator<Item = (u16, &ServerEndpoint)> {
        let rotating = usize::from(FIRST_RESERVED_SLOT);
        (self.slots().take(rotating)).filter_map(|(number, server)| Some((number, server?)))
    }

    /// Gives a slot to the next server without one that is not among `excluded`, if there is any.
    fn assign_next(
        &mut self,
        slot: usize,
        servers: &BTreeMap<NodeName, ServerEndpoint>,
        excluded: &BTreeSet<String>,
    ) {
        let after = match &self.last {
            Some(last) => Bound::Excluded(last),
            None => Bound::Unbounded,
        };
        let rest = servers.range((after, Bound::Unbounded));
        let next = (rest.chain(servers).map(|(_, server)| server)).find(|server| {
            let pod = &server.agent.pod;
            !excluded.contains(pod) && self.slot_of(pod).is_none()
        });
        if let Some(server) = next {
            self.last = Some(server.agent.node.clone());
            self.slots[slot].server = Some(server.clone());
        }
    }
}

/// The indices of the slots that rotate.
fn rotating() -> std::ops::Range<usize> {
    0..usize::from(FIRST_RESERVED_SLOT)
}

#[cfg(test)]
mod tests;
