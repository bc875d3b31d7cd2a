//! Connects to the cluster that kubectl would use: reads the same kubeconfig files, context and namespace, or the service
//! account of the pod.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Config;
use kube::client::ClientBuilder;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError, NoProxyError};
use prober_core::suggestion::{closest, did_you_mean};
use thiserror::Error;

use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::fencing_token::FencingToken;
use crate::kubernetes::proxy::{self, ProxyEnv, ProxyError};
use crate::kubernetes::request_count::RequestCount;

/// The time limit for opening a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The options that choose a cluster, a user and a namespace. `None` is the default of kubectl.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The kubeconfig file, instead of those of the environment.
    pub kubeconfig: Option<PathBuf>,
    /// The context, instead of the current one.
    pub context: Option<String>,
    /// The namespace, instead of the context's.
    pub namespace: Option<String>,
}

/// The environment variables that locate kubeconfig files and proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeconfigEnv {
    /// `KUBECONFIG`: files, separated by colons.
    pub kubeconfig: Option<OsString>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    pub proxies: ProxyEnv,
}

impl KubeconfigEnv {
    /// The environment of this process.
    pub fn current() -> Self {
        Self {
            kubeconfig: std::env::var_os("KUBECONFIG"),
            home: std::env::home_dir(),
            proxies: ProxyEnv::current(),
        }
    }
}

/// Why no client can be made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// There is neither a kubeconfig nor a service account.
    #[error(
        "there is no kubeconfig (looked for {}), and this is no pod with a service account: give --kubeconfig FILE or \
         set KUBECONFIG",
        path_list(.tried)
    )]
    NoKubeconfig {
        /// The files that do not exist.
        tried: Vec<PathBuf>,
    },
    /// A kubeconfig file cannot be read.
    #[error("cannot read the kubeconfig {}: {cause}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        cause: std::io::Error,
    },
    /// A kubeconfig file has a syntax error.
    #[error("{} is no kubeconfig: {cause}; `kubectl config view` shows what is wrong with it", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The error of the parser.
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
        /// The contexts that exist.
        known: Vec<String>,
    },
    /// The chosen context does not exist.
    #[error("the kubeconfig {} has no context {name:?}{}: it has {}", path_list(.paths), did_you_mean(.nearest.as_deref()), context_list(.known))]
    UnknownContext {
        /// The files.
        paths: Vec<PathBuf>,
        /// The chosen context.
        name: String,
        /// The most similar context that exists.
        nearest: Option<String>,
        /// The contexts that exist.
        known: Vec<String>,
    },
    /// The cluster or user of the context is missing or invalid.
    #[error("the kubeconfig {} cannot be used: {cause}; `kubectl config view` shows it", path_list(.paths))]
    InvalidContext {
        /// The files.
        paths: Vec<PathBuf>,
        /// The missing or invalid part.
        cause: KubeconfigError,
    },
    /// The proxy to the API server cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// `NO_PROXY` has an empty part, which the client library refuses.
    #[error(
        "cannot read NO_PROXY: {cause}; separate hosts, addresses and prefixes by commas, without an empty part"
    )]
    NoProxy {
        /// The error of the parser.
        cause: NoProxyError,
    },
    /// The service account of this pod cannot be used.
    #[error(
        "the service account of this pod cannot be used: {0}; give --kubeconfig FILE or mount its token"
    )]
    InCluster(#[source] InClusterError),
    /// The configuration does not make a client.
    #[error(transparent)]
    Client(ApiError),
}

/// Makes a client of the cluster that `options` choose. No request is sent.
///
/// Must be called within a tokio runtime.
///
/// # Errors
///
/// If no cluster is configured, or its configuration cannot be used.
pub async fn connect(
    options: &ConnectOptions,
    env: &KubeconfigEnv,
) -> Result<ApiClient, ConnectError> {
    let config = load_config(options, env).await?;
    let server = config
        .cluster_url
        .to_string()
        .trim_end_matches('/')
        .to_owned();
    let default_namespace = config.default_namespace.clone();
    let request_count = RequestCount::default();
    let kube = ClientBuilder::try_from(config)
        .map_err(|error| ConnectError::Client(ApiError::new(&server, "create its client", &error)))?
        .with_layer(&request_count.layer())
        .build();
    Ok(ApiClient {
        kube,
        namespace: options.namespace.clone().unwrap_or(default_namespace),
        server,
        request_count,
        fencing_token: FencingToken::default(),
    })
}

async fn load_config(
    options: &ConnectOptions,
    env: &KubeconfigEnv,
) -> Result<Config, ConnectError> {
    let paths = kubeconfig_paths(options, env);
    let mut config = match read_merged(options, &paths)? {
        Some(kubeconfig) => select_context(kubeconfig, options, &paths, &env.proxies).await?,
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            Config::incluster().map_err(ConnectError::InCluster)?
        }
        None => return Err(ConnectError::NoKubeconfig { tried: paths }),
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Ok(config)
}

/// The files that kubectl would merge, in its order.
///
/// <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/>
fn kubeconfig_paths(options: &ConnectOptions, env: &KubeconfigEnv) -> Vec<PathBuf> {
    if let Some(path) = &options.kubeconfig {
        return vec![path.clone()];
    }
    let listed: Vec<PathBuf> = env
        .kubeconfig
        .iter()
        .flat_map(std::env::split_paths)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if listed.is_empty() {
        let home = env.home.iter();
        return home.map(|home| home.join(".kube/config")).collect();
    }
    listed
}

/// Reads and merges the files that exist; `None` if there are none. The file of `--kubeconfig` must exist.
fn read_merged(
    options: &ConnectOptions,
    paths: &[PathBuf],
) -> Result<Option<Kubeconfig>, ConnectError> {
    let mut merged = None;
    for path in paths {
        let next = match Kubeconfig::read_from(path) {
            Ok(next) => next,
            Err(KubeconfigError::ReadConfig(cause, path)) => {
                if cause.kind() == std::io::ErrorKind::NotFound && options.kubeconfig.is_none() {
                    continue;
                }
                return Err(ConnectError::Unreadable { path, cause });
            }
            Err(cause) => return Err(malformed(path, cause)),
        };
        merged = Some(match merged {
            None => next,
            Some(before) => {
                Kubeconfig::merge(before, next).map_err(|cause| malformed(path, cause))?
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
    options: &ConnectOptions,
    paths: &[PathBuf],
    proxies: &ProxyEnv,
) -> Result<Config, ConnectError> {
    let paths = paths.to_vec();
    let known: Vec<String> = kubeconfig
        .contexts
        .iter()
        .map(|context| context.name.clone())
        .collect();
    let chosen = options
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
            nearest: closest(&name, known.iter().map(String::as_str)).map(str::to_owned),
            name,
            known,
        });
    }
    let of_kubeconfig = proxy_url(&kubeconfig, &name);
    let kube_options = KubeConfigOptions {
        context: Some(name),
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &kube_options)
        .await
        .map_err(|cause| {
            if let KubeconfigError::ParseNoProxy(cause) = cause {
                ConnectError::NoProxy { cause }
            } else {
                ConnectError::InvalidContext { paths, cause }
            }
        })?;
    // kube-rs compares NO_PROXY to the proxy instead of the server.
    config.proxy_url = proxy::choose(&config.cluster_url, of_kubeconfig.as_deref(), proxies)?;
    Ok(config)
}

/// The `proxy-url` of a context's cluster.
fn proxy_url(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let mut contexts = kubeconfig.contexts.iter();
    let context = contexts.find(|one| one.name == context)?.context.as_ref()?;
    let mut clusters = kubeconfig.clusters.iter();
    let cluster = clusters.find(|one| one.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone()
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

        fn options(&self, name: &str) -> ConnectOptions {
            ConnectOptions {
                kubeconfig: Some(self.path(name)),
                ..ConnectOptions::default()
            }
        }

        /// The server and namespace, or the error without the name of the folder.
        fn outcome(&self, options: &ConnectOptions, env: &KubeconfigEnv) -> String {
            let folder = format!("{}/", self.0.path().display());
            match try_connect(options, env) {
                Ok(client) => format!("{} in {}", client.server, client.namespace),
                Err(error) => error.to_string().replace(&folder, ""),
            }
        }
    }

    fn try_connect(
        options: &ConnectOptions,
        env: &KubeconfigEnv,
    ) -> Result<ApiClient, ConnectError> {
        block_on(connect(options, env)).expect("a runtime")
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
        let no_env = KubeconfigEnv::default();
        let with = |name: &str, context: &str| ConnectOptions {
            context: Some(context.to_owned()),
            ..files.options(name)
        };
        let none = KubeconfigEnv {
            home: Some(files.path("home")),
            ..KubeconfigEnv::default()
        };
        insta::assert_snapshot!(
            [
                files.outcome(&files.options("good"), &no_env),
                files.outcome(&files.options("missing"), &no_env),
                files.outcome(&ConnectOptions::default(), &none),
                files.outcome(&files.options("without"), &no_env),
                files.outcome(&files.options("empty"), &no_env),
                files.outcome(&files.options("notes"), &no_env),
                files.outcome(&with("good", "stagin"), &no_env),
                files.outcome(&with("good", "broken"), &no_env),
            ]
            .join("\n")
        );
    }

    #[test]
    fn files_of_the_environment_are_merged_and_missing_ones_skipped() {
        let files = Files::new(&[
            ("first", "current-context: staging\n"),
            ("second", KUBECONFIG),
        ]);
        let names = ["first", "gone", "second"].map(|name| files.path(name));
        let env = KubeconfigEnv {
            kubeconfig: Some(std::env::join_paths(names).expect("no colon in a name")),
            ..KubeconfigEnv::default()
        };
        let named = ConnectOptions {
            namespace: Some("other".to_owned()),
            ..ConnectOptions::default()
        };
        assert_eq!(
            files.outcome(&ConnectOptions::default(), &env),
            "https://10.99.0.1:6443 in prod"
        );
        assert_eq!(
            files.outcome(&named, &env),
            "https://10.99.0.1:6443 in other"
        );
    }
}
