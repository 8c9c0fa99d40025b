use std::io::Write;
use std::time::Duration;

use super::*;

fn trial(source: &Source, rate: f64, fleet: &str, contestant: Contestant) -> tally::Figures {
    let (workload, fleet) = (source.at_rate(rate), fleet.parse().unwrap());
    run(&Trial { workload: &workload, fleet: &fleet, routers: 1, contestant, seed: 3 }).figures()
}

fn generated(shape: Shape) -> Source {
    Source::Generated { shape, requests: 300, seed: 5 }
}

#[test]
fn a_list_of_servers_says_how_many_of_what_speed() {
    let fleet: FleetSpec = "2xa100,h100,3xa100@0.5".parse().unwrap();
    assert_eq!(fleet.profiles.len(), 6);
    assert_eq!(fleet.profiles[5].weights, fleet.profiles[0].weights * 2);
    assert_eq!("7".parse::<FleetSpec>().unwrap().profiles.len(), 7);
    for bad in ["", "0", "x", "3xtpu", "a100@0", "a100@x", "99999"] {
        assert!(bad.parse::<FleetSpec>().is_err(), "{bad}");
    }
}

#[test]
fn every_policy_and_yardstick_goes_by_its_name() {
    for contestant in Contestant::all() {
        assert_eq!(contestant.name().parse::<Contestant>().unwrap(), contestant);
    }
    assert!("orakel".parse::<Contestant>().is_err());
}

#[test]
fn both_kinds_of_traces_are_read_and_anything_else_is_told_with_its_line() {
    let read = |text: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        trace::read(file.path(), &mut fastrand::Rng::with_seed(1))
    };
    let line =
        r#"{"timestamp": 3000, "input_length": 700, "output_length": 5, "hash_ids": [0, 9]}"#;
    let mooncake = read(&format!("{line}\n{line}\n")).unwrap();
    assert_eq!(mooncake.requests.len(), 2);
    assert!((3.0..6.0).contains(&mooncake.requests[0].at.as_secs_f64()));
    let blocks = mooncake.requests.iter().map(|request| mooncake.blocks(request, 16, 1));
    let blocks: Vec<_> = blocks.collect();
    assert_eq!((blocks[0].len(), &blocks[0]), (43, &blocks[1]));
    let azure = read(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,600,44\n\
         2023-11-16 18:15:48.0,600,1\n",
    )
    .unwrap();
    assert_eq!(azure.requests[1].at, Duration::from_millis(1_500));
    let blocks = [0, 1].map(|nth| azure.blocks(&azure.requests[nth], 16, 1));
    assert!(blocks[0].iter().all(|hash| !blocks[1].contains(hash)), "nothing is shared");
    let error = read(&format!("{line}\nnonsense\n")).unwrap_err();
    assert!(matches!(error, TraceError::Malformed { line: 2, .. }), "{error}");
    assert!(matches!(read("").unwrap_err(), TraceError::Empty { .. }));
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let adaptive = "adaptive".parse().unwrap();
    let of = || format!("{:?}", trial(&generated(Shape::Bursts), 20.0, "4", adaptive));
    assert_eq!(of(), of());
}

#[test]
fn knowing_the_cache_beats_not_knowing_it_where_agents_come_back() {
    let source = generated(Shape::Agent);
    let of = |name: &str| trial(&source, 5.0, "4", name.parse().unwrap());
    let (adaptive, blind, oracle) = (of("adaptive"), of("round_robin"), of("oracle"));
    assert!(adaptive.hits > blind.hits + 0.05, "{adaptive:?} {blind:?}");
    assert!(adaptive.ttft_mean < blind.ttft_mean, "{adaptive:?} {blind:?}");
    assert!(adaptive.hits > oracle.hits - 0.05, "{adaptive:?} {oracle:?}");
}

#[test]
fn slow_servers_are_found_out_without_being_told() {
    let source = generated(Shape::Bursts);
    let of = |name: &str| trial(&source, 20.0, "2xa100,2xa100@0.3", name.parse().unwrap());
    let (adaptive, requests, oracle) = (of("adaptive"), of("least_requests"), of("oracle"));
    assert!(adaptive.ttft_mean < requests.ttft_mean, "{adaptive:?} {requests:?}");
    assert!(adaptive.ttft_mean < oracle.ttft_mean * 1.5, "{adaptive:?} {oracle:?}");
}
