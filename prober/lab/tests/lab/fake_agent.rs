//! A fake agent: it writes `hello`, applies the responder's part of its plan, and ends on SIGTERM.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use prober_core::plan::{AcceptMode, Plan};
use prober_core::probe::event::{EVENT_SCHEMA, Event, Hello};
use prober_core::probe::tier::Tier;
use prober_core::time::Timestamp;
use prober_core::topology::AgentId;

/// The padding of an answer, so that it needs full-sized packets.
pub(crate) const FILLER: char = '.';

/// Returns the command that starts a fake agent.
pub(crate) fn command() -> Vec<OsString> {
    vec![std::env::current_exe().unwrap().into(), "agent".into()]
}

/// Runs a fake agent.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let value = |flag: &str| {
        let at = arguments
            .iter()
            .position(|argument| argument == flag)
            .unwrap();
        arguments[at + 1].clone()
    };
    let (node, pod) = {
        let agent = value("--agent");
        let (node, pod) = agent.split_once('/').unwrap();
        (node.to_owned(), pod.to_owned())
    };
    write_event(&Event::Hello(Hello {
        schema: EVENT_SCHEMA.to_owned(),
        agent: AgentId::new(node, pod.clone()),
        version: "fake".to_owned(),
        tier: Tier::T0,
        addresses: Vec::new(),
        limits: Vec::new(),
        at: Timestamp::default(),
        run: None,
    }));
    let mut accepted = None;
    let mut responder = Responder {
        pod,
        listening: None,
    };
    loop {
        if let Ok(text) = std::fs::read(value("--plan"))
            && let Ok(plan) = serde_json::from_slice::<Plan>(&text)
            && accepted != Some(plan.generation)
        {
            responder.apply(plan.responder.accept, plan.responder.ports[0]);
            accepted = Some(plan.generation);
            write_event(&Event::PlanAccepted {
                generation: plan.generation,
            });
        }
        // The plan file may be replaced at any time: it is polled.
        thread::sleep(Duration::from_millis(10));
    }
}

struct Responder {
    pod: String,
    listening: Option<(Arc<AtomicBool>, u16)>,
}

impl Responder {
    /// Applies an accept mode; treats `Paused` as `Closed`, because only the real agent keeps an accept queue.
    fn apply(&mut self, accept: AcceptMode, port: u16) {
        if let Some((closing, port)) = self.listening.take() {
            closing.store(true, Ordering::Release);
            // The listener reads the flag when it accepts a connection, which ends with the listener.
            let mut last = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let mut rest = Vec::new();
            last.read_to_end(&mut rest).unwrap();
        }
        match accept {
            AcceptMode::Running => {
                let listener = TcpListener::bind(("::", port)).unwrap();
                let closing = Arc::new(AtomicBool::new(false));
                self.listening = Some((Arc::clone(&closing), port));
                let pod = self.pod.clone();
                thread::spawn(move || answer(&listener, &closing, &pod));
            }
            AcceptMode::Paused | AcceptMode::Closed => {}
        }
    }
}

fn answer(listener: &TcpListener, closing: &AtomicBool, pod: &str) {
    let filler = FILLER.to_string().repeat(4000);
    loop {
        let (mut stream, peer) = listener.accept().unwrap();
        if closing.load(Ordering::Acquire) {
            return;
        }
        let client = peer.ip().to_canonical();
        // A client that has disconnected already is no error.
        let _disconnected = write!(stream, "{pod} {client}{filler}");
    }
}

fn write_event(event: &Event) {
    println!("{}", event.to_line());
}
