//! A run that stands, against the same model of a fleet: each cycle is told once and whole, and nothing stays placed.

use super::*;

/// How long a turn is.
const EACH: Duration = Duration::from_secs(10);

/// Begins again with all pairs until so many cycles are told, then interrupts; `before` may break the fleet before a cycle,
/// or tell the run something.
fn stand(
    mut fleet: ModelFleet,
    cycles: usize,
    limit: usize,
    mut before: impl FnMut(usize, &mut ModelFleet, &mut Run),
) -> (ModelFleet, Vec<RunResult>) {
    let mut run = Run::repeated(spec(2), spec(2).pairs());
    let mut now = Timestamp::from_nanos(1);
    let mut events = VecDeque::new();
    let mut told = Vec::new();
    let mut interrupted = false;
    run.start(now);
    for _ in 0..10_000 {
        if run.phase() == Phase::Ended {
            return (fleet, told);
        }
        if !interrupted && (fleet.commands >= limit || told.len() >= cycles) {
            interrupted = true;
            run.handle(PlatformEvent::Interrupted, now);
        } else if run.phase() == Phase::Idle && events.is_empty() {
            told.extend(run.take_cycle_result());
            fleet.told_at.push(now);
            assert!(run.take_cycle_result().is_none());
            now = now + Duration::from_secs(10);
            before(told.len(), &mut fleet, &mut run);
            let pairs = spec(2).pairs();
            let probing = match fleet.turns {
                0 => CycleSpec::Attended(pairs),
                turns => CycleSpec::Unattended {
                    periods: vec![pairs; turns],
                    period: EACH,
                },
            };
            run.start_cycle(&probing, now);
        } else {
            step(&mut run, &mut fleet, &mut events, &mut now);
        }
    }
    panic!("the run does not end: {:?}", run.phase());
}

#[test]
fn each_cycle_probes_every_path_again_on_the_same_agents() {
    let (fleet, told) = stand(ModelFleet::default(), 3, usize::MAX, |_, _, _| {});
    assert_eq!(told.len(), 3);
    assert_eq!(fleet.history.len(), 6);
    assert!(fleet.placed.is_empty());
    let mut numbers = BTreeSet::new();
    for cycle in &told {
        assert_eq!(cycle.completion, Completion::Complete);
        assert_eq!(cycle.matrix.paths.len(), 4 * 4 + 2 * 3);
        assert!(cycle.matrix.paths.values().all(PathEvidence::is_clean));
        assert!(
            cycle
                .matrix
                .paths
                .values()
                .all(|path| path.unfinished() == 0)
        );
        assert!(cycle.matrix.agents.values().all(|agent| agent.heard));
        assert_all_asked(&cycle.matrix);
        numbers.extend(cycle.matrix.paths.keys().copied());
    }
    assert_eq!(numbers.len(), 3 * (4 * 4 + 2 * 3));
}

#[test]
fn a_fault_between_two_cycles_is_seen_in_the_second_and_gone_in_the_third() {
    let (fleet, told) = stand(ModelFleet::default(), 3, usize::MAX, |cycle, fleet, _| {
        fleet.dead_port = (cycle == 1).then_some(9_000);
    });
    let failing = |cycle: &RunResult| {
        let paths = cycle.matrix.paths.values();
        paths.filter(|path| !path.is_clean()).count()
    };
    assert_eq!(told.iter().map(failing).collect::<Vec<_>>(), [0, 5, 0]);
    // Nodes are asked when something fails, and what they say is of that cycle alone.
    assert!(
        told[0]
            .matrix
            .nodes
            .values()
            .all(|node| node.before.is_some())
    );
    assert!(
        told[1]
            .matrix
            .nodes
            .values()
            .all(|node| node.before.is_none())
    );
    assert!(
        told[1]
            .matrix
            .nodes
            .values()
            .any(|node| node.during.is_some())
    );
    assert!(
        told[2]
            .matrix
            .nodes
            .values()
            .all(|node| node.during.is_none())
    );
    assert!(fleet.placed.is_empty());
}

#[test]
fn nobody_is_led_to_a_node_that_was_withdrawn() {
    let left = NodeName::new("node-2");
    let (fleet, told) = stand(ModelFleet::default(), 3, usize::MAX, |cycle, _, run| {
        if cycle == 1 {
            run.withdraw(&left, Timestamp::default());
            run.withdraw(&left, Timestamp::default());
        }
    });
    let met = |cycle: &RunResult| {
        let paths = cycle.matrix.paths.values();
        let balanced = paths.filter(|path| path.path.access_path == AccessPath::ClusterIpAny);
        let behind = balanced.flat_map(|path| path.backends.clone());
        let nodes = behind.filter_map(|backend| Some(backend.agent?.node));
        nodes.collect::<BTreeSet<_>>()
    };
    assert!(met(&told[0]).contains(&left));
    for cycle in &told[1..] {
        assert_eq!(met(cycle), [NodeName::new("node-1")].into());
        assert_eq!(cycle.completion, Completion::Complete);
    }
    assert!(fleet.placed.is_empty());
}

#[test]
fn an_agent_that_dies_takes_its_paths_along_and_no_others() {
    let dead = AgentId::new("node-2", "node-2-server");
    let (_, told) = stand(ModelFleet::default(), 3, usize::MAX, |cycle, fleet, _| {
        fleet.mortal = (cycle == 1).then(|| dead.clone());
    });
    let Completion::CouldNotRun { reason } = &told[1].completion else {
        panic!("{:?}", told[1].completion)
    };
    assert!(reason.contains("it was evicted"), "{reason}");
    let matrix = &told[2].matrix;
    let mut servers = matrix.paths.values().map(|path| &path.path.server);
    assert!(servers.all(|server| server.as_ref() != Some(&dead)));
    assert!(!matrix.paths.is_empty() && !matrix.unprobed.is_empty());
}

#[test]
fn an_agent_that_falls_silent_does_not_hold_a_cycle_up() {
    let silent = AgentId::new("node-2", "node-2-client");
    let (_, told) = stand(ModelFleet::default(), 3, usize::MAX, |cycle, fleet, _| {
        fleet.silent = (cycle == 1).then(|| silent.clone());
    });
    let heard = |cycle: &RunResult| cycle.matrix.agents[&silent].heard;
    assert_eq!(
        told.iter().map(heard).collect::<Vec<_>>(),
        [true, false, true]
    );
}

#[test]
fn what_a_late_agent_tells_of_an_earlier_cycle_is_not_taken_for_this_ones() {
    let mut run = Run::repeated(spec(1), spec(1).pairs());
    let mut now = Timestamp::from_nanos(1);
    let mut fleet = ModelFleet::default();
    let mut kept = Vec::new();
    run.start(now);
    for cycle in 0..2 {
        let mut events = VecDeque::new();
        while run.phase() != Phase::Idle {
            if let Some(command) = run.poll_command() {
                let answers = fleet.obey(command);
                if cycle == 0 {
                    kept.extend(answers.clone());
                }
                events.extend(answers);
            } else if let Some(event) = events.pop_front() {
                run.handle(event, now);
            } else {
                let at = run.poll_timeout().unwrap();
                now = at;
                run.handle_timeout(now);
            }
        }
        let told = run.take_cycle_result().unwrap();
        assert!(
            told.matrix
                .paths
                .values()
                .all(|path| path.total().outcomes.total() == path.asked),
            "{cycle}"
        );
        run.start_cycle(&CycleSpec::Attended(spec(1).pairs()), now);
        for event in kept.drain(..) {
            if matches!(
                &event,
                PlatformEvent::AgentLine {
                    event: Event::Tally(_) | Event::Done { .. },
                    ..
                }
            ) {
                run.handle(event, now);
            }
        }
    }
}

/// A fleet that is probed again in six turns, unread.
fn unread() -> ModelFleet {
    ModelFleet {
        turns: 6,
        ..ModelFleet::default()
    }
}

/// How long a cycle took; the first begins when the one before was told and ten seconds had passed.
fn took(fleet: &ModelFleet, cycle: usize) -> Duration {
    fleet.told_at[cycle]
        .since(fleet.told_at[cycle - 1])
        .saturating_sub(Duration::from_secs(10))
}

#[test]
fn rounds_that_nobody_reads_are_told_together_when_all_had_their_turn() {
    let (fleet, told) = stand(unread(), 3, usize::MAX, |_, _, _| {});
    let probes = |cycle: &RunResult| {
        let paths = cycle.matrix.paths.values();
        paths.map(|path| path.total().outcomes.total()).sum::<u64>()
    };
    for cycle in &told {
        assert_eq!(cycle.completion, Completion::Complete);
        assert!(cycle.matrix.paths.values().all(PathEvidence::is_clean));
        assert!(cycle.matrix.agents.values().all(|agent| agent.heard));
        assert_all_asked(&cycle.matrix);
    }
    assert_eq!(probes(&told[1]), 6 * probes(&told[0]));
    assert_eq!(took(&fleet, 1), 6 * EACH);
    // The last was begun when the run was interrupted.
    assert_eq!((fleet.hushed, fleet.listened), (3, 2));
}

#[test]
fn who_rings_is_read_at_once_and_nobody_else_is_called_silent() {
    let (fleet, told) = stand(unread(), 3, usize::MAX, |cycle, fleet, _| {
        fleet.dead_port = (cycle == 1).then_some(9_000);
    });
    let paths = &told[1].matrix.paths;
    assert!(!paths.values().all(PathEvidence::is_clean));
    assert!(
        took(&fleet, 1) < Duration::from_secs(1),
        "{:?}",
        took(&fleet, 1)
    );
    assert!(told[1].matrix.agents.values().all(|agent| agent.heard));
    assert!(told[2].matrix.paths.values().all(PathEvidence::is_clean));
}

#[test]
fn who_dies_or_leaves_while_nobody_is_read_ends_the_round() {
    let dead = AgentId::new("node-2", "node-2-server");
    let (fleet, told) = stand(unread(), 2, usize::MAX, |cycle, fleet, _| {
        fleet.mortal = (cycle == 1).then(|| dead.clone());
    });
    assert!(took(&fleet, 1) < Duration::from_secs(1));
    assert!(matches!(told[1].completion, Completion::CouldNotRun { .. }));
}

#[test]
fn who_falls_silent_without_a_ring_is_missed_when_the_round_is_over() {
    let silent = AgentId::new("node-2", "node-2-client");
    let (fleet, told) = stand(unread(), 3, usize::MAX, |cycle, fleet, _| {
        fleet.silent = (cycle == 1).then(|| silent.clone());
    });
    let heard = |cycle: &RunResult| cycle.matrix.agents[&silent].heard;
    assert_eq!(
        told.iter().map(heard).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert!(took(&fleet, 1) > 6 * EACH && took(&fleet, 1) < 7 * EACH + EACH / 2);
}

#[test]
fn whoever_has_nothing_to_do_hears_that_nobody_reads_and_that_somebody_does_again() {
    let without_hairpin = RunSpec {
        access_paths: [AccessPath::PodIp].into(),
        tier: Tier::T1,
        ..spec(2)
    };
    let pairs = without_hairpin.pairs();
    let mut run = Run::repeated(without_hairpin, pairs.clone());
    let (mut fleet, mut events) = (ModelFleet::default(), VecDeque::new());
    let mut now = Timestamp::from_nanos(1);
    run.start(now);
    let probings = [
        CycleSpec::Unattended {
            periods: vec![pairs.clone(); 2],
            period: EACH,
        },
        CycleSpec::Attended(pairs.clone()),
        CycleSpec::Attended(pairs),
    ];
    let told = probings.map(|probing| {
        while run.phase() != Phase::Idle {
            step(&mut run, &mut fleet, &mut events, &mut now);
        }
        run.start_cycle(&probing, now);
        let mut told = BTreeMap::new();
        while run.phase() != Phase::Idle {
            if let Some(PlatformCommand::SendPlan(plan)) = run.context.commands.front() {
                told.insert(plan.agent.pod.clone(), plan.log_reading);
            }
            step(&mut run, &mut fleet, &mut events, &mut now);
        }
        told
    });
    let all = [
        "node-1-client",
        "node-1-server",
        "node-2-client",
        "node-2-server",
    ];
    let of_all = |reader| BTreeMap::from(all.map(|agent| (agent.to_owned(), reader)));
    let clients =
        ["node-1-client", "node-2-client"].map(|agent| (agent.to_owned(), LogReading::Attended));
    assert_eq!(
        told,
        [
            of_all(LogReading::Unattended),
            of_all(LogReading::Attended),
            clients.into()
        ]
    );
}

proptest! {
    #[test]
    fn a_standing_run_stopped_at_any_command_leaves_nothing_placed(
        limit in 0_usize..120,
        cycles in 1_usize..5,
        turns in 0_usize..3,
        dead_port in proptest::option::of(9_000_u16..9_004),
        silent in proptest::option::of((1_u8..3, 0_usize..3)),
    ) {
        let role = |at: usize| ["client", "server", "host"][at];
        let fleet = ModelFleet {
            turns,
            dead_port,
            silent: silent.map(|(node, at)| {
                AgentId::new(format!("node-{node}"), format!("node-{node}-{}", role(at)))
            }),
            ..ModelFleet::default()
        };
        let (fleet, _) = stand(fleet, cycles, limit, |_, _, _| {});
        prop_assert!(fleet.placed.is_empty());
    }
}
