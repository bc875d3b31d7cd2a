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
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// The time that one connection may take: the next one may reach another server.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// The pause between two connections.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Connects to each of the Services and servers until it succeeds. Returns the Services to which no connection was
/// established within [`SERVICES_PATIENCE`].
pub(crate) async fn wait_until_reachable(
    services: &[SocketAddr],
    servers: &[SocketAddr],
) -> Vec<SocketAddr> {
    let now = Instant::now();
    let (unanswered, _) = tokio::join!(
        unanswered(services, now + SERVICES_PATIENCE),
        // A server without an answer is left to the probes.
        unanswered(servers, now + PODS_PATIENCE)
    );
    unanswered
}

/// Connects to all targets at once, and returns those to which no connection is established until then.
async fn unanswered(targets: &[SocketAddr], until: Instant) -> Vec<SocketAddr> {
    let attempts: Vec<_> = targets
        .iter()
        .map(|&target| (target, tokio::spawn(connects(target, until))))
        .collect();
    let mut unanswered = Vec::new();
    for (target, answer) in attempts {
        if !answer.await.unwrap_or(false) {
            unanswered.push(target);
        }
    }
    unanswered
}

async fn connects(target: SocketAddr, until: Instant) -> bool {
    loop {
        if let Ok(Ok(_)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
            return true;
        }
        if Instant::now() >= until {
            return false;
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
        assert_eq!(wait_until_reachable(&[target], &[]).await, []);
        late.await.unwrap();
        assert_eq!(wait_until_reachable(&[target], &[target]).await, [target]);
    }
}
