//! A repeated run against the same model of a platform: each cycle has one whole result, and no object stays placed.

use super::*;

/// The duration of a period.
const PERIOD: Duration = Duration::from_secs(10);

/// Runs this many cycles of all pairs, then interrupts; before each cycle, `before` may change the platform or call the run.
fn run_cycles(
    mut platform: ModelPlatform,
    cycles: usize,
    limit: usize,
    mut before: impl FnMut(usize, &mut ModelPlatform, &mut Run),
) -> (ModelPlatform, Vec<RunResult>) {
    let mut run = Run::repeated(spec(2), spec(2).pairs());
    let mut now = Timestamp::from_nanos(1);
    let mut events = VecDeque::new();
    let mut results = Vec::new();
    let mut interrupted = false;
    run.start(now);
    for _ in 0..10_000 {
        if run.phase() == Phase::Ended {
            return (platform, results);
        }
        if !interrupted && (platform.commands >= limit || results.len() >= cycles) {
            interrupted = true;
            run.handle(PlatformEvent::Interrupted, now);
        } else if run.phase() == Phase::Idle && events.is_empty() {
            results.extend(run.take_cycle_result());
            platform.finished_at.push(now);
            assert!(run.take_cycle_result().is_none());
            now = now + Duration::from_secs(10);
            before(results.len(), &mut platform, &mut run);
            let pairs = spec(2).pairs();
            let probing = match platform.periods {
                0 => CycleSpec::Attended(pairs),
                count => CycleSpec::Unattended {
                    periods: vec![pairs; count],
                    period: PERIOD,
                },
            };
            run.start_cycle(&probing, now);
        } else {
            step(&mut run, &mut platform, &mut events, &mut now);
        }
    }
    panic!("the run does not end: {:?}", run.phase());
}

#[test]
fn each_cycle_probes_every_path_again_on_the_same_agents() {
    let (platform, results) = run_cycles(ModelPlatform::default(), 3, usize::MAX, |_, _, _| {});
    assert_eq!(results.len(), 3);
    assert_eq!(platform.history.len(), 6);
    assert!(platform.placed.is_empty());
    let mut numbers = BTreeSet::new();
    for cycle in &results {
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
        assert!(cycle.matrix.agents.values().all(|agent| agent.has_reported));
        assert_all_probed(&cycle.matrix);
        numbers.extend(cycle.matrix.paths.keys().copied());
    }
    assert_eq!(numbers.len(), 3 * (4 * 4 + 2 * 3));
}

#[test]
fn comparisons_of_a_cycle_have_numbers_of_their_own_and_end_with_it() {
    let is_to_server =
        |_: &AgentId, target: SocketAddr| target == SocketAddr::from(([100, 96, 1, 20], 8080));
    let (_, results) = run_cycles(
        ModelPlatform::default(),
        3,
        usize::MAX,
        |cycle, platform, _| {
            platform.fault = (cycle == 1).then_some((is_to_server, OutcomeKind::Timeout));
            platform.dead_port = (cycle == 1).then_some(9_000);
        },
    );
    let compared: Vec<_> = (results.iter())
        .map(|cycle| cycle.matrix.comparisons.len())
        .collect();
    assert_eq!(compared, [0, 2, 0]);
    let last = results[1].matrix.comparisons.keys().next_back().unwrap();
    let next = results[2].matrix.paths.keys().next().unwrap();
    assert!(next > last, "{next:?} follows {last:?}");
}

#[test]
fn a_fault_between_two_cycles_is_found_in_the_second_and_gone_in_the_third() {
    let (platform, results) = run_cycles(
        ModelPlatform::default(),
        3,
        usize::MAX,
        |cycle, platform, _| {
            platform.dead_port = (cycle == 1).then_some(9_000);
        },
    );
    let failing = |cycle: &RunResult| {
        let paths = cycle.matrix.paths.values();
        paths.filter(|path| !path.is_clean()).count()
    };
    assert_eq!(results.iter().map(failing).collect::<Vec<_>>(), [0, 5, 0]);
    // Facts are read when a path fails, and belong to that cycle alone.
    assert!(
        results[0]
            .matrix
            .nodes
            .values()
            .all(|node| node.before.is_some())
    );
    assert!(
        results[1]
            .matrix
            .nodes
            .values()
            .all(|node| node.before.is_none())
    );
    assert!(
        results[1]
            .matrix
            .nodes
            .values()
            .any(|node| node.during.is_some())
    );
    assert!(
        results[2]
            .matrix
            .nodes
            .values()
            .all(|node| node.during.is_none())
    );
    // The hosts at their ends read the conntrack entries of the failing paths, in that cycle alone.
    let hosts = platform.tracked.iter().map(|(host, _)| host.pod.as_str());
    assert_eq!(hosts.collect::<Vec<_>>(), ["node-1-host", "node-2-host"]);
    let failing = "100.67.30.133:9000".parse().unwrap();
    for (host, request) in &platform.tracked {
        assert!(request.targets.contains(&failing), "{host}: {request:?}");
        assert!(!request.clients.is_empty(), "{host}");
    }
    assert!(platform.placed.is_empty());
}

#[test]
fn no_balanced_path_leads_to_a_withdrawn_node() {
    let left = NodeName::new("node-2");
    let (platform, results) =
        run_cycles(ModelPlatform::default(), 3, usize::MAX, |cycle, _, run| {
            if cycle == 1 {
                run.withdraw(&left, Timestamp::default());
                run.withdraw(&left, Timestamp::default());
            }
        });
    let backends = |cycle: &RunResult| {
        let paths = cycle.matrix.paths.values();
        let balanced = paths.filter(|path| path.path.access_path == AccessPath::ClusterIpAny);
        let behind = balanced.flat_map(|path| path.backends.clone());
        let nodes = behind.filter_map(|backend| Some(backend.agent?.node));
        nodes.collect::<BTreeSet<_>>()
    };
    assert!(backends(&results[0]).contains(&left));
    for cycle in &results[1..] {
        assert_eq!(backends(cycle), [NodeName::new("node-1")].into());
        assert_eq!(cycle.completion, Completion::Complete);
    }
    assert!(platform.placed.is_empty());
}

#[test]
fn an_agent_that_fails_in_a_cycle_makes_its_paths_unprobed_and_no_others() {
    let dead = AgentId::new("node-2", "node-2-server");
    let (_, results) = run_cycles(
        ModelPlatform::default(),
        3,
        usize::MAX,
        |cycle, platform, _| {
            platform.failing = (cycle == 1).then(|| dead.clone());
        },
    );
    let Completion::CouldNotRun { reason } = &results[1].completion else {
        panic!("{:?}", results[1].completion)
    };
    assert!(reason.contains("it was evicted"), "{reason}");
    let matrix = &results[2].matrix;
    let mut servers = matrix.paths.values().map(|path| &path.path.server);
    assert!(servers.all(|server| server.as_ref() != Some(&dead)));
    assert!(!matrix.paths.is_empty() && !matrix.unprobed.is_empty());
}

#[test]
fn an_agent_that_falls_silent_does_not_delay_a_cycle() {
    let silent = AgentId::new("node-2", "node-2-client");
    let (_, results) = run_cycles(
        ModelPlatform::default(),
        3,
        usize::MAX,
        |cycle, platform, _| {
            platform.silent = (cycle == 1).then(|| silent.clone());
        },
    );
    let has_reported = |cycle: &RunResult| cycle.matrix.agents[&silent].has_reported;
    assert_eq!(
        results.iter().map(has_reported).collect::<Vec<_>>(),
        [true, false, true]
    );
}

#[test]
fn late_lines_of_an_earlier_cycle_do_not_count_in_this_one() {
    let mut run = Run::repeated(spec(1), spec(1).pairs());
    let mut now = Timestamp::from_nanos(1);
    let mut platform = ModelPlatform::default();
    let mut kept = Vec::new();
    run.start(now);
    for cycle in 0..2 {
        let mut events = VecDeque::new();
        while run.phase() != Phase::Idle {
            if let Some(command) = run.poll_command() {
                let answers = platform.handle(command);
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
        let results = run.take_cycle_result().unwrap();
        assert!(
            results
                .matrix
                .paths
                .values()
                .all(|path| path.total().outcomes.total() == path.requested),
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

/// A platform whose cycles have six periods, unattended.
fn unattended() -> ModelPlatform {
    ModelPlatform {
        periods: 6,
        ..ModelPlatform::default()
    }
}

/// The duration of a cycle; it begins ten seconds after the result of the one before.
fn took(platform: &ModelPlatform, cycle: usize) -> Duration {
    platform.finished_at[cycle]
        .since(platform.finished_at[cycle - 1])
        .saturating_sub(Duration::from_secs(10))
}

#[test]
fn unattended_periods_have_one_result_when_all_have_ended() {
    let (platform, results) = run_cycles(unattended(), 3, usize::MAX, |_, _, _| {});
    let probes = |cycle: &RunResult| {
        let paths = cycle.matrix.paths.values();
        paths.map(|path| path.total().outcomes.total()).sum::<u64>()
    };
    for cycle in &results {
        assert_eq!(cycle.completion, Completion::Complete);
        assert!(cycle.matrix.paths.values().all(PathEvidence::is_clean));
        assert!(cycle.matrix.agents.values().all(|agent| agent.has_reported));
        assert_all_probed(&cycle.matrix);
    }
    assert_eq!(probes(&results[1]), 6 * probes(&results[0]));
    assert_eq!(took(&platform, 1), 6 * PERIOD);
    // The last had begun when the run was interrupted.
    assert_eq!((platform.pauses, platform.resumes), (3, 2));
}

#[test]
fn an_alert_is_read_at_once_and_other_agents_do_not_count_as_silent() {
    let (platform, results) = run_cycles(unattended(), 3, usize::MAX, |cycle, platform, _| {
        platform.dead_port = (cycle == 1).then_some(9_000);
    });
    let paths = &results[1].matrix.paths;
    assert!(!paths.values().all(PathEvidence::is_clean));
    assert!(
        took(&platform, 1) < Duration::from_secs(1),
        "{:?}",
        took(&platform, 1)
    );
    assert!(
        results[1]
            .matrix
            .agents
            .values()
            .all(|agent| agent.has_reported)
    );
    assert!(results[2].matrix.paths.values().all(PathEvidence::is_clean));
}

#[test]
fn an_alert_ends_its_cycle_at_once_and_the_next_one_reads_the_entries() {
    let (platform, results) = run_cycles(unattended(), 3, usize::MAX, |cycle, platform, _| {
        platform.dead_port = (cycle >= 1).then_some(9_000);
        if cycle == 2 {
            assert!(
                platform.tracked.is_empty(),
                "the alert leaves no time for it"
            );
            // A suspected pair is probed attended.
            platform.periods = 0;
        }
    });
    assert!(!results[1].matrix.paths.values().all(PathEvidence::is_clean));
    assert!(!platform.tracked.is_empty());
}

#[test]
fn an_agent_that_fails_ends_an_unattended_round() {
    let dead = AgentId::new("node-2", "node-2-server");
    let (platform, results) = run_cycles(unattended(), 2, usize::MAX, |cycle, platform, _| {
        platform.failing = (cycle == 1).then(|| dead.clone());
    });
    assert!(took(&platform, 1) < Duration::from_secs(1));
    assert!(matches!(
        results[1].completion,
        Completion::CouldNotRun { .. }
    ));
}

#[test]
fn an_agent_that_falls_silent_without_an_alert_is_missed_at_the_end_of_the_round() {
    let silent = AgentId::new("node-2", "node-2-client");
    let (platform, results) = run_cycles(unattended(), 3, usize::MAX, |cycle, platform, _| {
        platform.silent = (cycle == 1).then(|| silent.clone());
    });
    let has_reported = |cycle: &RunResult| cycle.matrix.agents[&silent].has_reported;
    assert_eq!(
        results.iter().map(has_reported).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert!(took(&platform, 1) > 6 * PERIOD && took(&platform, 1) < 7 * PERIOD + PERIOD / 2);
}

#[test]
fn agents_without_probes_learn_when_reading_of_logs_is_paused_and_resumed() {
    let without_hairpin = RunSpec {
        access_paths: [AccessPath::PodIp].into(),
        tier: Tier::T1,
        ..spec(2)
    };
    let pairs = without_hairpin.pairs();
    let mut run = Run::repeated(without_hairpin, pairs.clone());
    let (mut platform, mut events) = (ModelPlatform::default(), VecDeque::new());
    let mut now = Timestamp::from_nanos(1);
    run.start(now);
    let probings = [
        CycleSpec::Unattended {
            periods: vec![pairs.clone(); 2],
            period: PERIOD,
        },
        CycleSpec::Attended(pairs.clone()),
        CycleSpec::Attended(pairs),
    ];
    let results = probings.map(|probing| {
        while run.phase() != Phase::Idle {
            step(&mut run, &mut platform, &mut events, &mut now);
        }
        run.start_cycle(&probing, now);
        let mut results = BTreeMap::new();
        while run.phase() != Phase::Idle {
            if let Some(PlatformCommand::SendPlan(plan)) = run.context.commands.front() {
                results.insert(plan.agent.pod.clone(), plan.log_reading);
            }
            step(&mut run, &mut platform, &mut events, &mut now);
        }
        results
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
        results,
        [
            of_all(LogReading::Unattended),
            of_all(LogReading::Attended),
            clients.into()
        ]
    );
}

proptest! {
    #[test]
    fn a_repeated_run_stopped_at_any_command_leaves_nothing_placed(
        limit in 0_usize..120,
        cycles in 1_usize..5,
        periods in 0_usize..3,
        dead_port in proptest::option::of(9_000_u16..9_004),
        silent in proptest::option::of((1_u8..3, 0_usize..3)),
    ) {
        let role = |at: usize| ["client", "server", "host"][at];
        let platform = ModelPlatform {
            periods,
            dead_port,
            silent: silent.map(|(node, at)| {
                AgentId::new(format!("node-{node}"), format!("node-{node}-{}", role(at)))
            }),
            ..ModelPlatform::default()
        };
        let (platform, _) = run_cycles(platform, cycles, limit, |_, _, _| {});
        prop_assert!(platform.placed.is_empty());
    }
}
