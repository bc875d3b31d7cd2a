//! Joins the attempts of several observers into connections: their ends share the initial sequence number.

use std::collections::BTreeMap;
use std::time::Duration;

use super::attempt::{Attempt, Leg};
use super::ending::{Ending, ending};
use super::host::Position;
use super::observer::Observer;
use crate::time::Timestamp;

/// The most that clocks of two machines are apart, where the packets prove that they are the same.
const MAX_SKEW: Duration = Duration::from_hours(24);

/// The same, where less proves it.
const MAX_UNPROVEN_SKEW: Duration = Duration::from_hours(1);

/// One attempt as one observer saw it.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The number of the observer.
    pub(super) observer: usize,
    /// Where on the way it is.
    pub(super) position: Position,
    /// The attempt.
    pub(super) attempt: Attempt,
    /// How it ended there.
    pub(super) ending: Ending,
}

/// One attempt to connect, as all observers saw it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// The view nearest to the client.
    pub(super) client: View,
    /// The views between that and the server's, in the order of the way.
    pub(super) between: Vec<View>,
    /// The view nearest to the server, where another one is.
    pub(super) server: Option<View>,
    /// How it ended.
    pub(super) ending: Ending,
}

impl Connection {
    /// The views of all observers, from the client to the server.
    pub(super) fn views(&self) -> impl Iterator<Item = &View> + Clone {
        std::iter::once(&self.client)
            .chain(&self.between)
            .chain(&self.server)
    }

    /// The pair of addresses at the client's end.
    pub(super) fn leg(&self) -> Leg {
        self.client.attempt.first_leg()
    }

    /// The destination of the SYN after translation, if an observer has it.
    pub(super) fn translated(&self) -> Option<std::net::SocketAddr> {
        let first = self.leg().target;
        let last = match &self.server {
            Some(view) => view.attempt.last_leg().target,
            None => self.client.attempt.last_leg().target,
        };
        (last != first).then_some(last)
    }
}

/// Joins the attempts of all observers, in the order of observers and SYNs.
pub(super) fn join(observers: &mut [Observer]) -> Vec<Connection> {
    let mut by_number: BTreeMap<u32, Vec<View>> = BTreeMap::new();
    let mut connections = Vec::new();
    for (number, observer) in observers.iter_mut().enumerate() {
        let host = observer.tracker.hosts.capturing();
        for attempt in std::mem::take(&mut observer.tracker.finished) {
            let position = host.position(&attempt, &observer.tracker.neighbours);
            let mut ending = ending(&attempt, observer.until);
            if position == Position::Server {
                ending = ending.at_server();
            }
            if !observer.tracker.is_two_sided {
                ending = ending.in_one_sided(observer.until.since(attempt.started));
            }
            let view = View {
                observer: number,
                position,
                ending,
                attempt,
            };
            match view.attempt.isn {
                Some(isn) => by_number.entry(isn.0).or_default().push(view),
                None => connections.push(Connection::new(vec![view])),
            }
        }
    }
    for views in by_number.into_values() {
        connections.extend(clusters(views).into_iter().map(Connection::new));
    }
    connections.sort_by_key(|connection| {
        (
            connection.client.observer,
            connection.client.attempt.started,
            connection.leg().client,
        )
    });
    connections
}

/// The views with one number, in groups of the same connection.
fn clusters(views: Vec<View>) -> Vec<Vec<View>> {
    let mut clusters: Vec<Vec<View>> = Vec::new();
    for view in views {
        let fitting = clusters.iter_mut().find(|cluster| {
            cluster.iter().any(|other| is_same(other, &view))
                && !cluster.iter().any(|other| is_contrary(other, &view))
        });
        match fitting {
            Some(cluster) => cluster.push(view),
            None => clusters.push(vec![view]),
        }
    }
    clusters
}

/// Whether one observer saw both: then they are two attempts.
fn is_contrary(one: &View, other: &View) -> bool {
    one.observer == other.observer
}

/// Whether two observers saw the same connection.
fn is_same(one: &View, other: &View) -> bool {
    let (a, b) = (&one.attempt, &other.attempt);
    let stamps = common(a, b, |syn| syn.stamp);
    let idents = common(a, b, |syn| (syn.ident != 0).then_some(syn.ident));
    if stamps == Some(false) {
        return false;
    }
    let is_one_end = a.legs.iter().any(|leg| {
        (b.legs.iter()).any(|other| leg.client == other.client || leg.target == other.target)
    });
    let is_proven = stamps == Some(true) && idents == Some(true);
    let apart = apart(a.started, b.started);
    let longest = if is_proven {
        MAX_SKEW
    } else {
        MAX_UNPROVEN_SKEW
    };
    apart <= longest && (is_one_end || stamps == Some(true))
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

/// Whether SYNs of both have a value in common; `None` where one has none.
fn common<T: PartialEq>(
    one: &Attempt,
    other: &Attempt,
    value: impl Fn(&super::attempt::Syn) -> Option<T>,
) -> Option<bool> {
    let of = |attempt: &Attempt| -> Vec<T> { attempt.syns.iter().filter_map(&value).collect() };
    let (ours, theirs) = (of(one), of(other));
    if ours.is_empty() || theirs.is_empty() {
        return None;
    }
    Some(ours.iter().any(|value| theirs.contains(value)))
}

impl Connection {
    fn new(mut views: Vec<View>) -> Self {
        // Nearest to the client first; hop limits only ever fall, and answers come sooner nearer to the server.
        views.sort_by_key(|view| {
            (
                view.position,
                u8::MAX - view.attempt.first_leg().hop_limit,
                u64::MAX - answered_after(&view.attempt),
                view.ending.is_undecided(),
                view.observer,
            )
        });
        let mut views = views.into_iter();
        let mut client = views.next().unwrap_or_else(View::nothing);
        let (mut between, mut server) = (Vec::new(), None);
        for view in views {
            let is_part = client.position == view.position
                && client.position == Position::Client
                && client.ending.is_undecided();
            if is_part {
                // Two consecutive files of one observer.
                client = view;
            } else {
                between.extend(server.replace(view));
            }
        }
        if let Some(view) = &mut server
            && view.position == Position::Client
        {
            view.position = Position::Server;
        }
        let ending = joined(&client, server.as_ref());
        Self {
            client,
            between,
            server,
            ending,
        }
    }
}

impl View {
    fn nothing() -> Self {
        Self {
            observer: 0,
            position: Position::InTransit,
            attempt: Attempt::default(),
            ending: Ending::Established,
        }
    }
}

/// Nanoseconds from the SYN to its answer.
fn answered_after(attempt: &Attempt) -> u64 {
    attempt.answers.first().map_or(u64::MAX, |answer| {
        crate::time::nanos(answer.first.since(attempt.started))
    })
}

/// How a connection ended: as its client saw it; where that is in order, as the server's end saw it go on.
fn joined(client: &View, server: Option<&View>) -> Ending {
    let Some(server) = server else {
        return client.ending;
    };
    match (client.ending, server.ending) {
        (
            Ending::Established | Ending::Late { .. },
            later @ (Ending::HalfOpen { .. }
            | Ending::NeverAcknowledged { .. }
            | Ending::Missing { .. }
            | Ending::TooBig { .. }
            | Ending::ResetAfterHandshake { .. }),
        ) => later,
        // Every SYN arrived: none was lost.
        (
            Ending::Late {
                syns,
                after,
                why: super::ending::Lateness::Lost,
            },
            _,
        ) if server.attempt.syn_count >= client.attempt.syn_count
            && client
                .attempt
                .answers
                .iter()
                .map(|answer| answer.count)
                .sum::<u32>()
                >= server
                    .attempt
                    .answers
                    .iter()
                    .map(|answer| answer.count)
                    .sum::<u32>() =>
        {
            Ending::Late {
                syns,
                after,
                why: super::ending::Lateness::Slow,
            }
        }
        (ending, _) => ending,
    }
}
