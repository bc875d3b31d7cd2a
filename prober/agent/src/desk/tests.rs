//! A desk without sockets.

use std::net::Ipv4Addr;
use std::sync::mpsc;

use prober_core::plan::Method;

use super::*;

#[test]
fn who_was_kept_waiting_sends_a_few_at_a_time_and_all_in_the_end() {
    let (orders, received) = mpsc::channel();
    let (news, _told) = tokio::sync::mpsc::unbounded_channel();
    let config = FlightConfig {
        key: [7; 16],
        ports: 63000..=65535,
        v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        v6: None,
        mtu: 1500,
    };
    let mut desk = Desk::new(config, Loopback::Ignored, received, news);
    let start = Timestamp::from_nanos(1_000_000_000);
    let probe = ProbePlan {
        path: PathId(0),
        method: Method::Syn,
        target: "192.0.2.2:80".parse().unwrap(),
        count: 500,
        start_ms: 0,
        interval_ms: 1,
        deadline_ms: 3000,
    };
    orders
        .send(Order::Take(RawPlan {
            generation: 1,
            probes: vec![probe],
            ports: Vec::new(),
            start,
        }))
        .unwrap();
    // As long as this would have taken it was not given a processor.
    let late = start + Duration::from_secs(1);
    let mut sent = Vec::new();
    for _ in 0..500_usize.div_ceil(BURST) {
        desk.take_orders(late);
        desk.handle_timeout(late);
        let before = sent.len();
        desk.poll_transmit(&mut sent);
        assert!((1..=BURST).contains(&(sent.len() - before)));
    }
    assert_eq!(sent.len(), 500);
}
