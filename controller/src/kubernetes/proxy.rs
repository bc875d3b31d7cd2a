//! The proxy on the way to an API server, as kubectl chooses it: the kubeconfig's `proxy-url`, else that of the environment
//! unless `NO_PROXY` names the server.
//!
//! <https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config> and
//! <https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/#Cluster>

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;
use thiserror::Error;

/// The environment variables that choose a proxy; the names in lower case count where those in upper case are not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyEnv {
    /// `HTTPS_PROXY`: the proxy to servers whose URL begins with `https`.
    pub https_proxy: Option<String>,
    /// `HTTP_PROXY`: the proxy to servers whose URL begins with `http`.
    pub http_proxy: Option<String>,
    /// `NO_PROXY`: the servers that are reached without these proxies, separated by commas.
    pub no_proxy: Option<String>,
}

impl ProxyEnv {
    /// The environment of this process.
    pub fn current() -> Self {
        let read = |name: &str| {
            let values = [name.to_owned(), name.to_lowercase()].map(std::env::var);
            let mut values = values.into_iter().flatten();
            values.find(|value| !value.trim().is_empty())
        };
        Self {
            https_proxy: read("HTTPS_PROXY"),
            http_proxy: read("HTTP_PROXY"),
            no_proxy: read("NO_PROXY"),
        }
    }
}

/// Why a proxy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "cannot use the proxy {url:?} of {origin}: {cause}; write it as http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"
)]
pub struct ProxyError {
    /// Where the proxy is configured.
    pub origin: &'static str,
    /// Its URL, without its password.
    pub url: String,
    /// Why it cannot be used.
    pub cause: String,
}

/// Returns the proxy to `server`; `None` if it is reached directly. `of_kubeconfig` is the `proxy-url` of its kubeconfig, to
/// which `NO_PROXY` does not apply.
///
/// # Errors
///
/// If the URL of the proxy is invalid, or of another protocol.
pub fn choose(
    server: &Uri,
    of_kubeconfig: Option<&str>,
    env: &ProxyEnv,
) -> Result<Option<Uri>, ProxyError> {
    if let Some(url) = of_kubeconfig.filter(|url| !url.trim().is_empty()) {
        return parse(url, "the kubeconfig").map(Some);
    }
    let (origin, url) = if server.scheme_str() == Some("http") {
        ("HTTP_PROXY", &env.http_proxy)
    } else {
        ("HTTPS_PROXY", &env.https_proxy)
    };
    match url {
        Some(url) if !is_direct(server, env.no_proxy.as_deref().unwrap_or_default()) => {
            parse(url, origin).map(Some)
        }
        Some(_) | None => Ok(None),
    }
}

/// Parses the URL of a proxy. Without a scheme it is that of an HTTP proxy; `socks5h` is `socks5`, whose proxy resolves the
/// server's name in any case.
fn parse(url: &str, origin: &'static str) -> Result<Uri, ProxyError> {
    let url = url.trim();
    let error = |cause: String| ProxyError {
        origin,
        url: without_password(url),
        cause,
    };
    let url = match url.split_once("://") {
        None => format!("http://{url}"),
        Some(("socks5h", rest)) => format!("socks5://{rest}"),
        Some(_) => url.to_owned(),
    };
    let uri: Uri = url
        .parse()
        .map_err(|cause: http::uri::InvalidUri| error(cause.to_string()))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https" | "socks5"), Some(host)) if !host.is_empty() => Ok(uri),
        (Some("http" | "https" | "socks5"), _) => Err(error("it names no host".to_owned())),
        (scheme, _) => Err(error(format!(
            "its protocol is {}",
            scheme.unwrap_or("unknown")
        ))),
    }
}

/// Removes the user and the password from a URL.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() {
        host.to_owned()
    } else {
        format!("{scheme}://{host}")
    }
}

/// Whether a server is reached without the proxy of the environment: it is this machine, or `no_proxy` names it.
fn is_direct(server: &Uri, no_proxy: &str) -> bool {
    let host = server.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.trim_end_matches('.').to_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let default = if server.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    let port = server.port_u16().unwrap_or(default);
    let entries = no_proxy.split(',').map(str::trim);
    entries
        .filter(|entry| !entry.is_empty())
        .any(|entry| is_named(&host, address, port, &entry.to_lowercase()))
}

/// Whether an entry of `NO_PROXY` names a server: `*`, a prefix, an address or a domain with its subdomains, the last two also
/// with a port.
fn is_named(host: &str, address: Option<IpAddr>, port: u16, entry: &str) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(prefix) = entry.parse::<IpNet>() {
        return address.is_some_and(|address| prefix.contains(&address));
    }
    let (name, entry_port) = split_port(entry);
    if entry_port.is_some_and(|entry_port| entry_port != port) {
        return false;
    }
    if let Ok(one) = name.parse::<IpAddr>() {
        return address == Some(one);
    }
    if address.is_some() {
        return false;
    }
    let name = name.strip_prefix('*').unwrap_or(name);
    match name.strip_prefix('.') {
        Some(domain) => is_subdomain(host, domain),
        None => host == name || is_subdomain(host, name),
    }
}

fn is_subdomain(host: &str, domain: &str) -> bool {
    let start = host.strip_suffix(domain);
    start.is_some_and(|start| start.len() > 1 && start.ends_with('.'))
}

/// Splits an entry into its name or address, without brackets, and its port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        None => (entry, None),
    };
    (name.trim_start_matches('[').trim_end_matches(']'), port)
}

#[cfg(test)]
mod tests;
