//! Network namespaces without names: each belongs to a thread, and ends with it.
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with a thread in it.
pub(crate) struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// A new one with its loopback up; `None` where the test may be skipped.
    pub(crate) fn new() -> Option<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (opened, result) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let made = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
            opened
                .send(made.map(|()| std::fs::read_link("/proc/thread-self").unwrap()))
                .unwrap();
            while let Ok(job) = queue.recv() {
                job();
            }
        });
        match result.recv().unwrap() {
            Ok(task) => {
                let path = PathBuf::from("/proc").join(task).join("ns/net");
                let namespace = Self {
                    jobs: Some(jobs),
                    path,
                    thread: Some(thread),
                };
                namespace.ip("link set lo up");
                Some(namespace)
            }
            Err(why) if std::env::var("PROBER_SKIP_PRIVILEGED").is_ok_and(|value| value == "1") => {
                println!("skipped: cannot make a network namespace: {why}");
                None
            }
            Err(why) => {
                panic!(
                    "cannot make a network namespace: {why}; run as root, or set PROBER_SKIP_PRIVILEGED=1"
                )
            }
        }
    }

    /// A path to the namespace, for `ip link set netns`.
    pub(crate) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Runs a function in the namespace.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs
            .as_ref()
            .unwrap()
            .send(Box::new(move || drop(done.send(job()))))
            .unwrap();
        result.recv().expect("the job did not panic")
    }

    /// Runs `ip` in the namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        self.command("ip", arguments);
    }

    /// Runs a program in the namespace; it must succeed.
    pub(crate) fn command(&self, program: &'static str, arguments: &str) {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new(program).args(&arguments).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success(),
                "{program} {}: {errors}",
                arguments.join(" ")
            );
        });
    }

    /// What a program prints in the namespace, its errors included.
    pub(crate) fn output(&self, program: &'static str, arguments: &str) -> String {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new(program).args(&arguments).output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&text).into_owned()
        })
    }

    /// Writes a sysctl of the namespace, such as `net/ipv4/ip_forward`.
    pub(crate) fn sysctl(&self, name: &str, value: &'static str) {
        let path = format!("/proc/sys/{name}");
        self.run(move || std::fs::write(path, value).unwrap());
    }

    /// The index of an interface.
    pub(crate) fn index(&self, name: &'static str) -> u32 {
        self.run(move || nix::net::if_::if_nametoindex(name).unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Two namespaces joined by a veth called `eth0` on both sides.
pub(crate) struct Pair {
    pub(crate) client: Namespace,
    pub(crate) server: Namespace,
}

impl Pair {
    pub(crate) const CLIENT: &str = "10.77.0.1";
    pub(crate) const SERVER: &str = "10.77.0.2";
    pub(crate) const CLIENT6: &str = "fd77::1";
    pub(crate) const SERVER6: &str = "fd77::2";
    pub(crate) const CLIENT_MAC: &str = "02:00:00:00:00:01";
    pub(crate) const SERVER_MAC: &str = "02:00:00:00:00:02";

    /// Both namespaces, with addresses and links up.
    pub(crate) fn new() -> Option<Self> {
        let (client, server) = (Namespace::new()?, Namespace::new()?);
        // Without duplicate address detection the addresses can be used at once.
        for namespace in [&client, &server] {
            namespace.sysctl("net/ipv6/conf/default/accept_dad", "0");
        }
        let (mac, peer_mac, path) = (Self::CLIENT_MAC, Self::SERVER_MAC, server.path.display());
        client.ip(&format!(
            "link add eth0 address {mac} type veth peer name eth0 address {peer_mac} netns {path}"
        ));
        for (namespace, v4, v6) in [
            (&client, Self::CLIENT, Self::CLIENT6),
            (&server, Self::SERVER, Self::SERVER6),
        ] {
            namespace.ip(&format!("addr add {v4}/24 dev eth0"));
            namespace.ip(&format!("addr add {v6}/64 dev eth0 nodad"));
            namespace.ip("link set eth0 up");
        }
        Some(Self { client, server })
    }
}

/// Parses an address.
pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
