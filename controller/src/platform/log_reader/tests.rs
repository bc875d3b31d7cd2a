//! The lines of a standing agent that belong to a run, and the bound of a line.

use futures::io::{BufReader, Cursor};
use prober_core::probe::event::EVENT_SCHEMA;
use prober_core::probe::tier::Tier;
use prober_core::time::Timestamp;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::*;

fn hello(run: Option<&str>, addresses: &[&str]) -> Event {
    Event::Hello(Hello {
        schema: EVENT_SCHEMA.to_owned(),
        agent: AgentId::new("node-1", "prober-client-x"),
        version: "0.1.0".to_owned(),
        tier: Tier::T1,
        addresses: addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
        limits: Vec::new(),
        at: Timestamp::default(),
        run: run.map(str::to_owned),
    })
}

fn notice(text: &str) -> Event {
    Event::Notice {
        text: text.to_owned(),
    }
}

fn log(events: &[Event]) -> Vec<u8> {
    let lines = events.iter().enumerate().map(|(second, event)| {
        let text = serde_json::to_string(event).unwrap();
        format!("2026-11-30T20:00:{second:02}Z {text}\n")
    });
    lines.collect::<String>().into_bytes()
}

/// A reader for the run `test` of a pod with these addresses, and its events.
fn reader(
    role: AgentRole,
    addresses: &[&str],
) -> (
    LogReader,
    watch::Receiver<LogState>,
    UnboundedReceiver<PlatformEvent>,
) {
    let (events, received) = mpsc::unbounded_channel();
    let (state, log_state) = watch::channel(LogState::Opening);
    let reader = LogReader {
        agent: AgentId::new("node-1", "prober-client-x"),
        start: LogStart::Greeting(Greeting {
            run: "test".to_owned(),
            role,
            addresses: addresses
                .iter()
                .map(|address| address.parse().unwrap())
                .collect(),
            state,
        }),
        events,
        bytes: 0,
    };
    (reader, log_state, received)
}

async fn read(reader: &mut LogReader, events: &[Event]) {
    let mut position = LogPosition::default();
    reader.read(Cursor::new(log(events)), &mut position).await;
}

/// The events that were sent.
fn sent(received: &mut UnboundedReceiver<PlatformEvent>) -> Vec<PlatformEvent> {
    std::iter::from_fn(|| received.try_recv().ok()).collect()
}

#[tokio::test]
async fn lines_before_the_greeting_and_of_the_standing_plan_are_not_of_the_run() {
    let (mut reader, state, mut received) = reader(AgentRole::Client, &["10.244.0.7"]);
    read(
        &mut reader,
        &[
            hello(None, &["10.244.0.7"]),
            notice("of an earlier run"),
            hello(Some("earlier"), &["10.244.0.7"]),
            Event::Alert,
        ],
    )
    .await;
    assert_eq!(sent(&mut received), []);
    assert_eq!(*state.borrow(), LogState::Opening);
    let own = hello(Some("test"), &["10.244.0.7"]);
    read(
        &mut reader,
        &[own.clone(), Event::Alert, notice("of this run")],
    )
    .await;
    let agent = AgentId::new("node-1", "prober-client-x");
    let line = |event| PlatformEvent::AgentLine {
        agent: agent.clone(),
        event,
    };
    let ready = PlatformEvent::AgentReady {
        agent: agent.clone(),
        addresses: vec!["10.244.0.7".parse().unwrap()],
    };
    assert_eq!(
        sent(&mut received),
        [ready, line(own), line(notice("of this run"))]
    );
    assert_eq!(*state.borrow(), LogState::Greeted);
}

#[tokio::test]
async fn the_addresses_of_the_api_count_and_another_claim_is_a_notice() {
    let (mut reader, _state, mut received) = reader(AgentRole::Client, &["10.244.0.7", "fd00::7"]);
    read(
        &mut reader,
        &[hello(Some("test"), &["10.244.0.7", "10.0.0.1"])],
    )
    .await;
    let events = sent(&mut received);
    let [
        PlatformEvent::AgentReady { addresses, .. },
        PlatformEvent::AgentLine {
            event: Event::Notice { text },
            ..
        },
        line,
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert!(
        text.contains("10.244.0.7, 10.0.0.1") && text.contains("fd00::7"),
        "{text}"
    );
    assert_eq!(addresses.len(), 2);
    let PlatformEvent::AgentLine {
        event: Event::Hello(hello),
        ..
    } = line
    else {
        panic!("{line:?}");
    };
    assert_eq!(hello.addresses, *addresses);
}

#[tokio::test]
async fn an_agent_in_the_network_of_its_node_has_the_nodes_other_addresses_too() {
    let (mut reader, _state, mut received) = reader(AgentRole::Host, &["10.99.0.11"]);
    read(
        &mut reader,
        &[hello(Some("test"), &["10.99.0.11", "10.244.0.1"])],
    )
    .await;
    let events = sent(&mut received);
    let [
        PlatformEvent::AgentReady { addresses, .. },
        PlatformEvent::AgentLine {
            event: Event::Hello(hello),
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(addresses.len(), 1);
    assert_eq!(hello.addresses.len(), 2);
}

#[tokio::test]
async fn a_line_without_an_end_occupies_no_more_than_its_bound() {
    let long = usize::try_from(MAX_LINE).unwrap() * 2 + 7;
    let text = [b"one\n".as_slice(), &vec![b'x'; long], b"\ntwo\nend"].concat();
    let mut stream = BufReader::new(Cursor::new(text));
    let (mut line, mut lengths) = (Vec::new(), Vec::new());
    while let Ok(1..) = read_line(&mut stream, &mut line).await {
        lengths.push(line.len());
    }
    let bound = usize::try_from(MAX_LINE).unwrap() + 1;
    assert_eq!(lengths, [4, bound, 4, 3]);
}
