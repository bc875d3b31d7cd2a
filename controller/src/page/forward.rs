//! Forwards connections to a local address to the page of the controller that leads, through the API server.
//!
//! Every connection finds out by the Lease which pod leads, so that the page goes on when another one takes over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::client::UpgradeConnectionError;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::canary::controller::LEASE;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;

/// The port of the page in the controller's pod.
pub const PAGE_PORT: u16 = 9091;

/// How long the kubelet may take to say why a port is closed.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the page cannot be reached.
#[derive(Debug, Error)]
pub enum ForwardError {
    /// A request to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no Lease.
    #[error(
        "no prober controller has led in namespace {namespace}: the Lease {LEASE} is not there; is the canary installed in another \
         namespace (--namespace)? `prober run` needs no controller"
    )]
    NoController {
        /// The namespace.
        namespace: String,
    },
    /// The Lease has no holder.
    #[error(
        "no prober controller leads in namespace {namespace} at present: `kubectl -n {namespace} get pods -l \
         app.kubernetes.io/name=prober-controller` shows whether one runs"
    )]
    NoLeader {
        /// The namespace.
        namespace: String,
    },
    /// The API server does not forward the port.
    #[error(
        "the API server does not forward a port to the pod {pod} in namespace {namespace} ({why}): it takes the verbs get and \
         create on pods/portforward (`kubectl auth can-i create pods/portforward -n {namespace}`), and a pod that runs"
    )]
    NotForwarded {
        /// The pod.
        pod: String,
        /// Its namespace.
        namespace: String,
        /// The answer of the API server.
        why: String,
    },
    /// The pod does not answer at the port.
    #[error(
        "the pod {pod} in namespace {namespace} does not serve the page at port {port}{}: give the port of its --page-address with \
         --page-port, or update the canary",
        .why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    NotServed {
        /// The pod.
        pod: String,
        /// Its namespace.
        namespace: String,
        /// The port.
        port: u16,
        /// The message of the kubelet.
        why: Option<String>,
    },
    /// The local address cannot be used.
    #[error("cannot listen on {address}: give another --port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A local address whose connections reach the page.
pub struct PageForward {
    client: ApiClient,
    port: u16,
    listener: TcpListener,
}

impl PageForward {
    /// Listens on `local`, after a first request has reached the page; also returns the name of the pod that leads.
    ///
    /// # Errors
    ///
    /// If no controller leads, the API server does not forward the port, the pod does not serve the page, or the local
    /// address is in use.
    pub async fn open(
        client: ApiClient,
        port: u16,
        local: SocketAddr,
    ) -> Result<(Self, String), ForwardError> {
        let pod = leader(&client).await?;
        try_page(&client, &pod, port).await?;
        let listener = TcpListener::bind(local).await;
        let listener = listener.map_err(|source| ForwardError::Listen {
            address: local,
            source,
        })?;
        let forward = Self {
            client,
            port,
            listener,
        };
        Ok((forward, pod))
    }

    /// The address that it listens on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Forwards connections for ever; `failed` receives the error of each that is not forwarded.
    pub async fn serve(self, failed: Arc<dyn Fn(ForwardError) + Send + Sync>) -> io::Result<()> {
        loop {
            let (connection, _) = self.listener.accept().await?;
            let (client, port, failed) = (self.client.clone(), self.port, Arc::clone(&failed));
            tokio::spawn(async move {
                if let Err(error) = forward(&client, port, connection).await {
                    failed(error);
                }
            });
        }
    }
}

async fn forward(
    client: &ApiClient,
    port: u16,
    mut connection: TcpStream,
) -> Result<(), ForwardError> {
    let pod = leader(client).await?;
    let (mut stream, _) = connect(client, &pod, port).await?;
    // Either end may close a connection at any time.
    drop(copy_bidirectional(&mut connection, &mut stream).await);
    Ok(())
}

/// The name of the pod that holds the Lease.
async fn leader(client: &ApiClient) -> Result<String, ForwardError> {
    let namespace = client.namespace.clone();
    let leases: Api<Lease> = Api::namespaced(client.kube.clone(), &namespace);
    let task = format!("read the Lease {LEASE} in namespace {namespace}");
    let lease = client.request(&task, leases.get_opt(LEASE)).await?;
    let Some(lease) = lease else {
        return Err(ForwardError::NoController { namespace });
    };
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    let pod = holder.as_deref().and_then(pod_of);
    pod.map(str::to_owned)
        .ok_or(ForwardError::NoLeader { namespace })
}

/// The pod of an identity in the Lease: `POD_RANDOM`.
fn pod_of(identity: &str) -> Option<&str> {
    let (pod, _) = identity.rsplit_once('_')?;
    (!pod.is_empty()).then_some(pod)
}

/// A connection to a port of a pod, and the message of the kubelet if that fails.
async fn connect(
    client: &ApiClient,
    pod: &str,
    port: u16,
) -> Result<(DuplexStream, impl Future<Output = Option<String>> + use<>), ForwardError> {
    let pods: Api<Pod> = Api::namespaced(client.kube.clone(), &client.namespace);
    let mut forwarder = match pods.portforward(pod, &[port]).await {
        Ok(forwarder) => forwarder,
        Err(error) => return Err(not_forwarded(client, pod, &error)),
    };
    let ends = forwarder.take_stream(port).zip(forwarder.take_error(port));
    ends.ok_or_else(|| not_served(client, pod, port, None))
}

fn not_forwarded(client: &ApiClient, pod: &str, error: &kube::Error) -> ForwardError {
    let refused = |why: String| ForwardError::NotForwarded {
        pod: pod.to_owned(),
        namespace: client.namespace.clone(),
        why,
    };
    if let kube::Error::Api(status) = error
        && status.code != 401
    {
        return refused(status.message.clone());
    }
    if let kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) = error {
        return refused(status.to_string());
    }
    let task = format!("forward a port to the pod {pod}");
    client.explain_error(&task, error).into()
}

/// Sends one request for the page.
async fn try_page(client: &ApiClient, pod: &str, port: u16) -> Result<(), ForwardError> {
    let (mut stream, failure) = connect(client, pod, port).await?;
    let request = b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(request).await?;
        stream.read_to_end(&mut answer).await
    };
    let task = "read the page through a forwarded port";
    let exchange = client.request(task, async { Ok(exchange.await) }).await?;
    if exchange.is_ok() && answer.starts_with(b"HTTP/1.1 200") {
        return Ok(());
    }
    // The kubelet says why nothing has answered; another server than that of the page is no failure of it.
    let why = if answer.is_empty() {
        timeout(FAILURE_TIMEOUT, failure).await.ok().flatten()
    } else {
        Some("something else answers there".to_owned())
    };
    Err(not_served(client, pod, port, why))
}

fn not_served(client: &ApiClient, pod: &str, port: u16, why: Option<String>) -> ForwardError {
    ForwardError::NotServed {
        pod: pod.to_owned(),
        namespace: client.namespace.clone(),
        port,
        why: why.map(|why| why.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_names_its_pod() {
        let identity = "prober-controller-7d9f_0123456789abcdef";
        assert_eq!(pod_of(identity), Some("prober-controller-7d9f"));
        assert_eq!(pod_of(""), None);
        assert_eq!(pod_of("_0123"), None);
    }
}
