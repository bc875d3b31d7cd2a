//! Waits, before the first probe of a plan, until its Services and servers accept connections.
//!
//! The rules of a new Service may reach a node later than the plan that probes it, and a new pod may be unknown to its
//! neighbours. A connection that is refused or unanswered because of that is no fault.
//!
//! Any established connection ends the wait, whichever server accepts it. The wait is bounded: what never accepts a
//! connection is what the probes are to find.

use std::net::SocketAddr;
use std::time::Duration;

use prober_core::plan::{PODS_PATIENCE, SERVICES_PATIENCE};
use prober_core::probe::event::Reached;
use prober_net::packet_socket::now;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// The time that one connection may take: the next one may reach another server.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// The pause between two connections.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What an agent learned while it waited.
#[derive(Debug, Default)]
pub(crate) struct Waited {
    /// The targets to which a connection was established.
    pub(crate) reached: Vec<Reached>,
    /// The Services to which none was established within [`SERVICES_PATIENCE`].
    pub(crate) unanswered: Vec<SocketAddr>,
}

/// Connects to each of the Services and servers until it succeeds, or until its patience is over.
pub(crate) async fn wait_until_reachable(
    services: &[SocketAddr],
    servers: &[SocketAddr],
) -> Waited {
    let start = Instant::now();
    let mut waited = Waited::default();
    let (services, servers) = tokio::join!(
        connect_all(services, start + SERVICES_PATIENCE),
        connect_all(servers, start + PODS_PATIENCE)
    );
    for (target, reached) in services {
        match reached {
            Some(reached) => waited.reached.push(reached),
            None => waited.unanswered.push(target),
        }
    }
    // A server without an answer is left to the probes.
    (waited.reached).extend(servers.into_iter().filter_map(|(_, reached)| reached));
    waited
}

/// Connects to all targets at once, until then.
async fn connect_all(targets: &[SocketAddr], until: Instant) -> Vec<(SocketAddr, Option<Reached>)> {
    let attempts: Vec<_> = targets
        .iter()
        .map(|&target| (target, tokio::spawn(connects(target, until))))
        .collect();
    let mut results = Vec::new();
    for (target, answer) in attempts {
        results.push((target, answer.await.unwrap_or(None)));
    }
    results
}

async fn connects(target: SocketAddr, until: Instant) -> Option<Reached> {
    let tried = now();
    let mut failures = 0;
    loop {
        if let Ok(Ok(_)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
            return Some(Reached {
                target,
                failures,
                tried,
                at: now(),
            });
        }
        failures += 1;
        if Instant::now() >= until {
            return None;
        }
        sleep(RETRY_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_late_listener_is_waited_for_and_a_missing_one_is_returned() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        drop(listener);
        let late = tokio::spawn(async move {
            sleep(Duration::from_millis(100)).await;
            TcpListener::bind(target)
                .await
                .unwrap()
                .accept()
                .await
                .unwrap();
        });
        let waited = wait_until_reachable(&[target], &[]).await;
        assert_eq!(waited.unanswered, []);
        let [reached] = &waited.reached[..] else {
            panic!("{waited:?}");
        };
        assert!(
            reached.target == target && reached.failures > 0,
            "{reached:?}"
        );
        assert!(reached.at.since(reached.tried) >= Duration::from_millis(50));
        late.await.unwrap();
        let waited = wait_until_reachable(&[target], &[target]).await;
        assert_eq!(waited.unanswered, [target]);
        assert_eq!(waited.reached, []);
    }
}
