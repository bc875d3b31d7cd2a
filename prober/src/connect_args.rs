//! The arguments that select a cluster, named as in kubectl.

use std::path::PathBuf;

#[cfg(feature = "cluster")]
use controller::kubernetes::kubeconfig::ConnectOptions;

/// The cluster, the credentials and the namespace to use.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ConnectArgs {
    /// The kubeconfig [default: as kubectl: $KUBECONFIG, else ~/.kube/config, else the service
    /// account of this pod]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,

    /// The namespace to work in [default: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

#[cfg(feature = "cluster")]
impl ConnectArgs {
    /// Returns the options for a connection to the API server.
    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace: self.namespace.clone(),
        }
    }
}
