//! Waits until Services lead somewhere and servers can be reached: the rules of a Service that has just been made may reach
//! a node later than the plan that asks it, a pod that has just come may be unknown to its neighbours, and what is then
//! refused or unanswered is no fault.
//!
//! Any connection that is established says so, whoever connects. The waiting has an end, since what never connects is what
//! probes are for.

use std::net::SocketAddr;
use std::time::Duration;

use prober_core::plan::{GREETING, SETTLING};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long one connection may take: the next may be led to another server.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// The pause between two connections: rules come all at once.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Asks each of the Services until it connects, and each of the servers; which of the Services never did within [`SETTLING`].
pub(crate) async fn wait_until_reachable(
    services: &[SocketAddr],
    servers: &[SocketAddr],
) -> Vec<SocketAddr> {
    let now = Instant::now();
    let (unanswered, _) = tokio::join!(
        unanswered(services, now + SETTLING),
        // A server that is unanswered is what the probes find.
        unanswered(servers, now + GREETING)
    );
    unanswered
}

/// Which of the targets do not answer until then; all are attempts at once.
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
    async fn who_comes_late_is_waited_for_and_who_never_comes_is_told() {
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
