//! How the cluster is reached: the kubeconfig that kubectl would read, read as kubectl reads it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Config;
use kube::client::ClientBuilder;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use thiserror::Error;

use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::fencing_token::FencingToken;
use crate::kubernetes::nearest_name::{nearest, suggestion};
use crate::kubernetes::request_count::RequestCount;

/// How long an API server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which cluster is meant, as whom, and in which namespace. What is `None` is what kubectl takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The kubeconfig, instead of those that the environment names.
    pub kubeconfig: Option<PathBuf>,
    /// The context, instead of the current one.
    pub context: Option<String>,
    /// The namespace, instead of the context's.
    pub namespace: Option<String>,
}

/// What the environment says of kubeconfigs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeconfigEnv {
    /// `KUBECONFIG`: files, separated by colons.
    pub kubeconfig: Option<OsString>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

impl KubeconfigEnv {
    /// Those of this process.
    pub fn current() -> Self {
        Self {
            kubeconfig: std::env::var_os("KUBECONFIG"),
            home: std::env::home_dir(),
        }
    }
}

/// Why no cluster can be asked.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nothing says where a cluster is.
    #[error(
        "there is no kubeconfig (looked for {}), and this is no pod with a service account: give --kubeconfig FILE or \
         set KUBECONFIG",
        path_list(.tried)
    )]
    NoKubeconfig {
        /// The files that were looked for.
        tried: Vec<PathBuf>,
    },
    /// A kubeconfig cannot be read.
    #[error("cannot read the kubeconfig {}: {cause}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// A kubeconfig is not one.
    #[error("{} is no kubeconfig: {cause}; `kubectl config view` shows what is wrong with it", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: KubeconfigError,
    },
    /// No context is chosen.
    #[error(
        "the kubeconfig {} has no current context (it has {}): give --context NAME, or `kubectl config use-context NAME`",
        path_list(.paths), context_list(.known)
    )]
    NoCurrentContext {
        /// The files.
        paths: Vec<PathBuf>,
        /// The contexts there are.
        known: Vec<String>,
    },
    /// The chosen context does not exist.
    #[error("the kubeconfig {} has no context {name:?}{}: it has {}", path_list(.paths), suggestion(.nearest.as_deref()), context_list(.known))]
    UnknownContext {
        /// The files.
        paths: Vec<PathBuf>,
        /// The context that was asked for.
        name: String,
        /// The one that may have been meant.
        nearest: Option<String>,
        /// The contexts there are.
        known: Vec<String>,
    },
    /// The context's cluster or user cannot be used.
    #[error("the kubeconfig {} cannot be used: {cause}; `kubectl config view` shows it", path_list(.paths))]
    InvalidContext {
        /// The files.
        paths: Vec<PathBuf>,
        /// What is missing or wrong.
        cause: KubeconfigError,
    },
    /// The service account of this pod cannot be used.
    #[error(
        "the service account of this pod cannot be used: {0}; give --kubeconfig FILE or mount its token"
    )]
    InCluster(#[source] InClusterError),
    /// The client cannot be made of what the kubeconfig says.
    #[error(transparent)]
    Client(ApiError),
}

/// The way to a cluster. It is not asked anything yet.
///
/// Needs a tokio runtime around it.
pub async fn connect(
    reach: &ConnectOptions,
    surroundings: &KubeconfigEnv,
) -> Result<ApiClient, ConnectError> {
    let (config, context) = config(reach, surroundings).await?;
    let server = config
        .cluster_url
        .to_string()
        .trim_end_matches('/')
        .to_owned();
    let namespace = reach.namespace.clone().unwrap_or(context);
    let requests = RequestCount::default();
    let client = ClientBuilder::try_from(config)
        .map_err(|error| ConnectError::Client(ApiError::new(&server, "be its client", &error)))?
        .with_layer(&requests.layer())
        .build();
    Ok(ApiClient {
        kube: client,
        namespace,
        server,
        request_count: requests,
        fencing_token: FencingToken::default(),
    })
}

/// What the client is made of, and the context's namespace.
async fn config(
    reach: &ConnectOptions,
    surroundings: &KubeconfigEnv,
) -> Result<(Config, String), ConnectError> {
    let paths = kubeconfig_paths(reach, surroundings);
    let mut config = match read_merged(reach, &paths)? {
        Some(kubeconfig) => select_context(kubeconfig, reach, &paths).await?,
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            Config::incluster().map_err(ConnectError::InCluster)?
        }
        None => return Err(ConnectError::NoKubeconfig { tried: paths }),
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let namespace = config.default_namespace.clone();
    Ok((config, namespace))
}

/// The files that kubectl would merge, in its order.
///
/// <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/>
fn kubeconfig_paths(reach: &ConnectOptions, surroundings: &KubeconfigEnv) -> Vec<PathBuf> {
    if let Some(path) = &reach.kubeconfig {
        return vec![path.clone()];
    }
    let named: Vec<PathBuf> = surroundings
        .kubeconfig
        .iter()
        .flat_map(std::env::split_paths)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if named.is_empty() {
        let home = surroundings.home.iter();
        return home.map(|home| home.join(".kube/config")).collect();
    }
    named
}

/// The files, merged; `None` where none of them exists. One that was named by its flag must.
fn read_merged(
    reach: &ConnectOptions,
    paths: &[PathBuf],
) -> Result<Option<Kubeconfig>, ConnectError> {
    let mut merged = None;
    for path in paths {
        let one = match Kubeconfig::read_from(path) {
            Ok(one) => one,
            Err(KubeconfigError::ReadConfig(cause, path)) => {
                if cause.kind() == std::io::ErrorKind::NotFound && reach.kubeconfig.is_none() {
                    continue;
                }
                return Err(ConnectError::Unreadable { path, cause });
            }
            Err(cause) => return Err(malformed(path, cause)),
        };
        merged = Some(match merged {
            None => one,
            Some(before) => {
                Kubeconfig::merge(before, one).map_err(|cause| malformed(path, cause))?
            }
        });
    }
    Ok(merged)
}

fn malformed(path: &Path, cause: KubeconfigError) -> ConnectError {
    ConnectError::Malformed {
        path: path.to_owned(),
        cause,
    }
}

async fn select_context(
    kubeconfig: Kubeconfig,
    reach: &ConnectOptions,
    paths: &[PathBuf],
) -> Result<Config, ConnectError> {
    let paths = paths.to_vec();
    let known: Vec<String> = kubeconfig
        .contexts
        .iter()
        .map(|context| context.name.clone())
        .collect();
    let chosen = reach
        .context
        .clone()
        .or_else(|| kubeconfig.current_context.clone())
        .filter(|name| !name.is_empty());
    let Some(name) = chosen else {
        return Err(ConnectError::NoCurrentContext { paths, known });
    };
    if !known.contains(&name) {
        return Err(ConnectError::UnknownContext {
            paths,
            nearest: nearest(&name, known.iter().map(String::as_str)),
            name,
            known,
        });
    }
    let options = KubeConfigOptions {
        context: Some(name),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|cause| ConnectError::InvalidContext { paths, cause })
}

fn path_list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if paths.is_empty() {
        return "KUBECONFIG and ~/.kube/config".to_owned();
    }
    paths.join(", ")
}

fn context_list(names: &[String]) -> String {
    if names.is_empty() {
        return "no context at all".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::runtime::block_on;

    const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
clusters:
- {name: here, cluster: {server: 'https://10.99.0.1:6443', insecure-skip-tls-verify: true}}
users:
- {name: jane, user: {token: secret}}
contexts:
- {name: staging, context: {cluster: here, user: jane, namespace: prod}}
- {name: broken, context: {cluster: there, user: jane}}
";

    /// A folder of kubeconfigs.
    struct Files(tempfile::TempDir);

    impl Files {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            for (name, text) in files {
                std::fs::write(folder.path().join(name), text).expect("written");
            }
            Self(folder)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn named(&self, name: &str) -> ConnectOptions {
            ConnectOptions {
                kubeconfig: Some(self.path(name)),
                ..ConnectOptions::default()
            }
        }

        /// What is said, without the folder's name.
        fn said(&self, reach: &ConnectOptions, surroundings: &KubeconfigEnv) -> String {
            let folder = format!("{}/", self.0.path().display());
            match connected(reach, surroundings) {
                Ok(found) => format!("{} in {}", found.server, found.namespace),
                Err(error) => error.to_string().replace(&folder, ""),
            }
        }
    }

    fn connected(
        reach: &ConnectOptions,
        around: &KubeconfigEnv,
    ) -> Result<ApiClient, ConnectError> {
        block_on(connect(reach, around)).expect("a runtime")
    }

    #[test]
    fn each_connect_error_names_the_file_and_the_remedy() {
        let current = format!("{KUBECONFIG}current-context: staging\n");
        let files = Files::new(&[
            ("good", &current),
            ("without", KUBECONFIG),
            ("empty", ""),
            ("notes", "- buy milk\n"),
        ]);
        let alone = KubeconfigEnv::default();
        let with = |name: &str, context: &str| ConnectOptions {
            context: Some(context.to_owned()),
            ..files.named(name)
        };
        let none = KubeconfigEnv {
            home: Some(files.path("home")),
            kubeconfig: None,
        };
        insta::assert_snapshot!(
            [
                files.said(&files.named("good"), &alone),
                files.said(&files.named("missing"), &alone),
                files.said(&ConnectOptions::default(), &none),
                files.said(&files.named("without"), &alone),
                files.said(&files.named("empty"), &alone),
                files.said(&files.named("notes"), &alone),
                files.said(&with("good", "stagin"), &alone),
                files.said(&with("good", "broken"), &alone),
            ]
            .join("\n")
        );
    }

    #[test]
    fn files_of_the_environment_are_merged_and_missing_ones_passed_over() {
        let files = Files::new(&[
            ("first", "current-context: staging\n"),
            ("second", KUBECONFIG),
        ]);
        let names = ["first", "gone", "second"].map(|name| files.path(name));
        let surroundings = KubeconfigEnv {
            kubeconfig: Some(std::env::join_paths(names).expect("no colon in a name")),
            home: None,
        };
        let named = ConnectOptions {
            namespace: Some("other".to_owned()),
            ..ConnectOptions::default()
        };
        assert_eq!(
            files.said(&ConnectOptions::default(), &surroundings),
            "https://10.99.0.1:6443 in prod"
        );
        assert_eq!(
            files.said(&named, &surroundings),
            "https://10.99.0.1:6443 in other"
        );
    }
}
