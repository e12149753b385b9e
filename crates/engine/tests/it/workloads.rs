//! When requests are sent, and how many at a time.

use serde_json::json;
use surgeline_engine::run::schedule;

use crate::reading::{MS, open, plan, run};
use crate::server::{Act, ok, serve};
use std::sync::atomic::{AtomicBool, Ordering};

/// In the open model each request is due at exactly its schedule's moment, over all workers, and nothing else is sent.
#[test]
fn open_requests_follow_the_schedule() {
    let (port, ledger) = serve(|_| vec![ok("")]);
    for workers in [1, 2] {
        let mut plan = plan(port, "/", 0);
        plan["workers"] = json!(workers);
        let stages =
            json!([{"duration_ns": 300 * MS, "from": 0, "to": 800}, {"duration_ns": 200 * MS, "from": 800, "to": 100}]);
        plan["workload"] = json!({"model": "open", "arrivals": "poisson", "stages": stages});
        let before = ledger.requests();
        let written = run(&plan);
        let expected = schedule(&plan.to_string(), usize::MAX).unwrap();
        let mut due = written.column("intended_ns");
        due.sort_unstable();
        assert_eq!(due, expected);
        assert_eq!(ledger.requests() - before, due.len());
        let mut users = written.column("user");
        users.sort_unstable();
        assert_eq!(users, (0..due.len() as i64).collect::<Vec<_>>());
        for row in &written.rows {
            let stage = i64::from(row["intended_ns"].int() >= 300 * MS);
            assert_eq!(row["stage"].int(), stage);
        }
    }
}

/// A process that has a share of the run sends that share.
#[test]
fn shares_are_shares() {
    let (port, _) = serve(|_| vec![ok("")]);
    let mut plan = plan(port, "/", 0);
    plan["workload"] = open(50, 100);
    let whole = schedule(&plan.to_string(), usize::MAX).unwrap();
    plan["share"] = json!({"index": 1, "of": 3});
    let written = run(&plan);
    let mut due = written.column("intended_ns");
    due.sort_unstable();
    assert_eq!(due, whole.into_iter().skip(1).step_by(3).collect::<Vec<_>>());
}

/// A stall is felt by everyone who was due during it: response time counts from when a request was due.
#[test]
fn a_stall_is_felt_by_everyone_who_was_due() {
    let stalled = AtomicBool::new(false);
    let (port, _) = serve(move |incoming| {
        let number: i64 = incoming.path[1..].parse().unwrap();
        let stalls = number >= 10 && !stalled.swap(true, Ordering::SeqCst);
        if stalls { vec![Act::Pause(1_500), ok("")] } else { vec![ok("")] }
    });
    // One connection at a time, as a server with a single worker would have it.
    let mut plan = plan(port, "/{{user}}", 0);
    plan["workload"] = open(250, 2_500);
    plan["timeout_ns"] = json!(10_000 * MS);
    plan["max_in_flight"] = json!(1);
    let written = run(&plan);
    let not_sent = written.outcomes()[&4];
    assert!((130..=220).contains(&not_sent), "{not_sent}");
    assert_eq!(written.errors()["in_flight_limit"] as i64, not_sent);
    let idle = written.rows.iter().filter(|row| row["outcome"].int() == 4);
    assert!(
        idle.clone().all(|row| row["start_ns"].int() == -1 && row["end_ns"].int() == -1 && row["reused"].int() == 2)
    );
}

/// The closed model never has more requests in flight than users, and as many when the server is slow.
#[test]
fn closed_users_wait_for_their_answers() {
    let (port, ledger) = serve(|_| vec![Act::Pause(10), ok("")]);
    let mut plan = plan(port, "/", 0);
    plan["workload"] = json!({"model": "closed", "stages": [{"duration_ns": 300 * MS, "from": 7, "to": 7}]});
    plan["workers"] = json!(2);
    let written = run(&plan);
    assert_eq!((ledger.most_busy.load(Ordering::SeqCst), ledger.connections()), (7, 7));
    assert!((7 * 3..=7 * 30).contains(&written.rows.len()), "{}", written.rows.len());
    let users: std::collections::BTreeSet<i64> = written.column("user").into_iter().collect();
    assert_eq!(users.into_iter().collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
    // Each request is due when its user was ready: at the answer before.
    for user in 0..7 {
        let own: Vec<_> = written.rows.iter().filter(|row| row["user"].int() == user).collect();
        assert_eq!(own[0]["intended_ns"].int(), 0);
        for pair in own.windows(2) {
            assert_eq!(pair[1]["intended_ns"].int(), pair[0]["end_ns"].int());
        }
    }
}

/// Users join a ramp where the line crosses their number, and leave it after their request.
#[test]
fn closed_users_follow_the_line() {
    let (port, _) = serve(|_| vec![Act::Pause(1), ok("")]);
    let mut plan = plan(port, "/", 0);
    let stages =
        json!([{"duration_ns": 1_000 * MS, "from": 0, "to": 8}, {"duration_ns": 1_000 * MS, "from": 8, "to": 0}]);
    plan["workload"] = json!({"model": "closed", "stages": stages});
    let written = run(&plan);
    for user in 0..8 {
        let own = written.rows.iter().filter(|row| row["user"].int() == user).map(|row| row["intended_ns"].int());
        let (first, last) = (own.clone().min().unwrap(), own.max().unwrap());
        assert!((first - user * 125 * MS).abs() <= 1, "user {user} joined at {first}");
        let leaves = 2_000 * MS - user * 125 * MS;
        assert!((leaves - 500 * MS..=leaves).contains(&last), "user {user} was due last at {last}");
    }
}

/// Think time lies between an answer and the next due moment; weights share the iterations.
#[test]
fn think_time_and_weights() {
    let (port, ledger) = serve(|_| vec![ok("")]);
    let mut plan = plan(port, "/a", 0);
    plan["endpoints"] = json!(["a", "b"]);
    plan["scenarios"] = json!([
        {"name": "a", "weight": 3, "think_time_ns": [2 * MS, 4 * MS], "steps": [
            {"endpoint": 0, "method": "GET", "path": "/a"}]},
        {"name": "b", "weight": 1, "think_time_ns": [2 * MS, 4 * MS], "steps": [
            {"endpoint": 1, "method": "GET", "path": "/b", "think_time_ns": [MS, MS]}]}
    ]);
    plan["workload"] = json!({"model": "closed", "stages": [{"duration_ns": 600 * MS, "from": 10, "to": 10}]});
    let written = run(&plan);
    for user in 0..10 {
        let own: Vec<_> = written.rows.iter().filter(|row| row["user"].int() == user).collect();
        for pair in own.windows(2) {
            let pause = pair[1]["intended_ns"].int() - pair[0]["end_ns"].int();
            let range = if pair[0]["scenario"].text() == "a" { 2 * MS..=4 * MS } else { MS..=MS };
            assert!(range.contains(&pause), "{pause}");
        }
    }
    let (a, b) = (ledger.path("/a") as f64, ledger.path("/b") as f64);
    assert!((a / (a + b) - 0.75).abs() < 0.12, "{a} {b}");
}

/// Steps of an open iteration follow each other at the answer before plus think time; connections are shared.
#[test]
fn open_iterations_run_their_steps() {
    let (port, ledger) = serve(|_| vec![ok("")]);
    let mut plan = plan(port, "/", 0);
    plan["endpoints"] = json!(["a", "b"]);
    plan["scenarios"][0]["think_time_ns"] = json!([5 * MS, 5 * MS]);
    plan["scenarios"][0]["steps"] = json!([
        {"endpoint": 0, "method": "GET", "path": "/a"}, {"endpoint": 1, "method": "GET", "path": "/b"}]);
    plan["workload"] = open(100, 500);
    let written = run(&plan);
    assert_eq!(ledger.path("/a"), 100);
    // The last iterations reach the end of the stage before their second step is due.
    assert!((80..=100).contains(&ledger.path("/b")), "{}", ledger.path("/b"));
    assert!(ledger.connections() < 100, "{}", ledger.connections());
    for second in written.rows.iter().filter(|row| row["endpoint"].text() == "b") {
        let first = written.rows.iter().find(|row| row["endpoint"].text() == "a" && row["user"] == second["user"]);
        assert_eq!(second["intended_ns"].int(), first.unwrap()["end_ns"].int() + 5 * MS);
    }
}
