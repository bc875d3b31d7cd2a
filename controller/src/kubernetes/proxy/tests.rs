//! Tests of the choice of a proxy, and of requests through real ones on the loopback interface.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::*;
use crate::kubernetes::kubeconfig::{ConnectOptions, KubeconfigEnv, connect};
use crate::kubernetes::runtime::block_on;

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

fn env(https_proxy: &str, no_proxy: &str) -> ProxyEnv {
    ProxyEnv {
        https_proxy: Some(https_proxy.to_owned()),
        http_proxy: None,
        no_proxy: Some(no_proxy.to_owned()),
    }
}

#[test]
fn no_proxy_names_servers_as_kubectl_reads_it() {
    let server = "https://api.prod.example.com:6443";
    for (server, no_proxy, is_direct) in [
        (server, "", false),
        (server, "*", true),
        (server, "example.com", true),
        (server, ".example.com", true),
        (server, "*.example.com", true),
        (server, "EXAMPLE.com:6443", true),
        (server, "example.com:443", false),
        (server, "ample.com", false),
        (server, "other.com,, api.prod.example.com ,", true),
        (server, "10.0.0.0/8", false),
        ("https://example.com", ".example.com", false),
        ("https://example.com", "example.com:443", true),
        ("https://10.1.2.3:6443", "10.0.0.0/8", true),
        ("https://10.1.2.3:6443", "10.1.2.3", true),
        ("https://10.1.2.3:6443", "10.1.2.3:443", false),
        ("https://10.1.2.3:6443", "3", false),
        ("https://[2001:db8::7]:6443", "2001:db8::/32", true),
        ("https://[2001:db8::7]:6443", "2001:db8::7", true),
        ("https://[2001:db8::7]:6443", "[2001:db8::7]:6443", true),
        ("https://[2001:db8::7]:6443", "2001:db8::8", false),
        ("https://localhost:6443", "", true),
        ("https://127.0.0.1:6443", "", true),
        ("https://[::1]:6443", "", true),
    ] {
        let chosen = choose(&uri(server), None, &env("http://proxy:3128", no_proxy)).unwrap();
        assert_eq!(chosen.is_none(), is_direct, "{server} {no_proxy:?}");
    }
}

#[test]
fn the_kubeconfig_comes_before_the_environment_and_no_proxy_is_of_the_environment() {
    let server = uri("https://10.1.2.3:6443");
    let env = env("http://proxy:3128", "10.1.2.3");
    let chosen = choose(&server, Some("socks5h://127.0.0.1:1080"), &env).unwrap();
    assert_eq!(chosen, Some(uri("socks5://127.0.0.1:1080")));
    assert_eq!(choose(&server, Some(""), &env), Ok(None));
}

#[test]
fn a_proxy_without_a_scheme_is_an_http_proxy_and_http_servers_have_their_own() {
    let both = ProxyEnv {
        http_proxy: Some("http://plain:80".to_owned()),
        ..env("proxy:3128", "")
    };
    let chosen = |server: &str| choose(&uri(server), None, &both).unwrap();
    assert_eq!(chosen("https://a.example"), Some(uri("http://proxy:3128")));
    assert_eq!(chosen("http://a.example"), Some(uri("http://plain:80")));
}

#[test]
fn an_error_names_the_proxy_and_where_it_is_set_but_not_its_password() {
    let server = uri("https://a.example");
    for (url, cause) in [
        ("ftp://jane:secret@proxy:21", "its protocol is ftp"),
        ("http://jane:secret@pro xy:21", "invalid uri"),
    ] {
        let error = choose(&server, None, &env(url, ""))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(cause) && error.contains("HTTPS_PROXY"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
}

/// Serves each connection to a listener of its own on a thread, for as long as the test's process runs.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads to the end of the head of an HTTP/1.1 request; `None` at the end of the stream, and of other protocols.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        // TLS begins otherwise.
        if head.is_empty() && !byte[0].is_ascii_uppercase() {
            return None;
        }
        head.extend(byte);
    }
    String::from_utf8(head).ok()
}

/// An API server that knows its version.
fn api_server() -> SocketAddr {
    listen(|mut stream| {
        let version = serde_json::json!({
            "major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": ""
        })
        .to_string();
        while read_head(&mut stream).is_some() {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
            drop(write!(stream, "{head} {}\r\n\r\n{version}", version.len()));
        }
    })
}

/// Copies bytes between two streams until both end.
fn splice(client: &TcpStream, server: SocketAddr) {
    let server = TcpStream::connect(server).unwrap();
    let copy = |from: &TcpStream, to: &TcpStream| {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        thread::spawn(move || drop(std::io::copy(&mut from, &mut to)))
    };
    let both = [copy(client, &server), copy(&server, client)];
    both.into_iter().for_each(|thread| drop(thread.join()));
}

/// A proxy that connects every request to `server`, and the targets that it was to connect to.
fn http_proxy(server: SocketAddr) -> (SocketAddr, Receiver<String>) {
    let (targets, requested) = mpsc::channel();
    let address = listen(move |mut stream| {
        let head = read_head(&mut stream).unwrap();
        let target = head.split(' ').take(2).collect::<Vec<_>>().join(" ");
        targets.send(target).unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\n\r\n").unwrap();
        splice(&stream, server);
    });
    (address, requested)
}

/// The same as a SOCKS5 proxy (RFC 1928), which takes no credentials and names.
fn socks5_proxy(server: SocketAddr) -> (SocketAddr, Receiver<String>) {
    let (targets, requested) = mpsc::channel();
    let address = listen(move |mut stream| {
        let mut two = [0; 2];
        stream.read_exact(&mut two).unwrap();
        let mut methods = vec![0; usize::from(two[1])];
        stream.read_exact(&mut methods).unwrap();
        assert!(two[0] == 5 && methods.contains(&0), "{two:?} {methods:?}");
        stream.write_all(&[5, 0]).unwrap();
        let mut request = [0; 5];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(request[..4], [5, 1, 0, 3], "CONNECT to a name");
        let mut name = vec![0; usize::from(request[4])];
        stream.read_exact(&mut name).unwrap();
        let mut port = [0; 2];
        stream.read_exact(&mut port).unwrap();
        let name = String::from_utf8(name).unwrap();
        targets
            .send(format!("{name}:{}", u16::from_be_bytes(port)))
            .unwrap();
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        splice(&stream, server);
    });
    (address, requested)
}

/// The version of an API server of this URL, or the error, with a kubeconfig that has these further fields of its cluster.
fn version(server: &str, fields: &str, proxies: ProxyEnv) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- {{name: a, cluster: {{server: '{server}'{fields}}}}}\n\
         users: [{{name: a, user: {{token: secret}}}}]\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    let options = ConnectOptions {
        kubeconfig: Some(path),
        ..ConnectOptions::default()
    };
    let env = KubeconfigEnv {
        proxies,
        ..KubeconfigEnv::default()
    };
    let version = async {
        let client = connect(&options, &env)
            .await
            .map_err(|error| error.to_string())?;
        let request = client.kube.apiserver_version();
        let version = client.request("report its version", request).await;
        version
            .map(|version| version.git_version)
            .map_err(|error| error.to_string())
    };
    block_on(version).unwrap()
}

#[test]
fn requests_travel_through_the_proxies_of_the_kubeconfig_and_the_environment() {
    let api = api_server();
    let (http, connects) = http_proxy(api);
    let (socks, names) = socks5_proxy(api);
    // Only the proxies know this name.
    let server = "http://api.example.invalid:6443";
    let of_kubeconfig = |url: String| {
        version(
            server,
            &format!(", proxy-url: '{url}'"),
            ProxyEnv::default(),
        )
    };
    assert_eq!(
        of_kubeconfig(format!("http://{http}")),
        Ok("v1.34.0".to_owned())
    );
    assert_eq!(connects.recv().unwrap(), "CONNECT api.example.invalid:6443");
    assert_eq!(
        of_kubeconfig(format!("socks5://{socks}")),
        Ok("v1.34.0".to_owned())
    );
    assert_eq!(names.recv().unwrap(), "api.example.invalid:6443");

    let of_env = |server: &str, no_proxy: &str| {
        let proxies = ProxyEnv {
            http_proxy: Some(http.to_string()),
            https_proxy: Some(format!("http://{http}")),
            no_proxy: Some(no_proxy.to_owned()),
        };
        version(server, "", proxies)
    };
    assert_eq!(of_env(server, "127.0.0.1"), Ok("v1.34.0".to_owned()));
    assert_eq!(connects.recv().unwrap(), "CONNECT api.example.invalid:6443");
    // Behind the proxy is no server with TLS.
    of_env("https://other.example.invalid", "127.0.0.1").unwrap_err();
    assert_eq!(
        connects.recv().unwrap(),
        "CONNECT other.example.invalid:443"
    );

    // Without a proxy the name is unknown, and the server of this machine is reached.
    of_env(server, "example.invalid").unwrap_err();
    assert_eq!(
        of_env(&format!("http://{api}"), ""),
        Ok("v1.34.0".to_owned())
    );
    assert_eq!(connects.try_iter().count(), 0);
}
