//! Waits until Services lead somewhere and servers can be reached: the rules of a Service that has just been made may reach
//! a node later than the plan that asks it, a pod that has just come may be unknown to its neighbours, and what is then
//! refused or silent is no fault.
//!
//! Any connection that is established says so, whoever answers. The waiting has an end, since what never answers is what
//! probes are for.

use std::net::SocketAddr;
use std::time::Duration;

use prober_core::plan::{GREETING, SETTLING};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long one connection may take: the next may be led to another server.
const PATIENCE: Duration = Duration::from_millis(250);

/// The pause between two connections: rules come all at once.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks each of the Services until it answers, and each of the servers; which of the Services never did within [`SETTLING`].
pub(crate) async fn settle(services: &[SocketAddr], servers: &[SocketAddr]) -> Vec<SocketAddr> {
    let now = Instant::now();
    let (silent, _) = tokio::join!(
        silent(services, now + SETTLING),
        // A server that is silent is what the probes find.
        silent(servers, now + GREETING)
    );
    silent
}

/// Which of the targets do not answer until then; all are asked at once.
async fn silent(targets: &[SocketAddr], until: Instant) -> Vec<SocketAddr> {
    let asked: Vec<_> = targets
        .iter()
        .map(|&target| (target, tokio::spawn(answers(target, until))))
        .collect();
    let mut silent = Vec::new();
    for (target, answer) in asked {
        if !answer.await.unwrap_or(false) {
            silent.push(target);
        }
    }
    silent
}

async fn answers(target: SocketAddr, until: Instant) -> bool {
    loop {
        if let Ok(Ok(_)) = timeout(PATIENCE, TcpStream::connect(target)).await {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        sleep(PAUSE).await;
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
        assert_eq!(settle(&[target], &[]).await, []);
        late.await.unwrap();
        assert_eq!(settle(&[target], &[target]).await, [target]);
    }
}
