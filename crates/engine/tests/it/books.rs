//! Every request that was due is counted once, wherever it is counted.

use std::time::Duration;

use serde_json::json;
use surgeline_engine::sink::Next;

use crate::reading::{MS, Written, finish, open, plan, run, start};
use crate::server::{Act, Incoming, answer, ok, serve};

/// Good, wrong, broken and redirected answers mixed: the books balance, also with the server's.
#[test]
fn the_books_balance_with_the_server() {
    let (port, ledger) = serve(|incoming: &Incoming| {
        let number: usize = incoming.path[1..].parse().unwrap_or(0);
        match number % 8 {
            1 => vec![answer(500, "", "")],
            2 => vec![Act::Reset],
            3 => vec![answer(200, "", "hello"), Act::Close],
            4 => vec![Act::Send(b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nhal".to_vec()), Act::Close],
            5 => vec![answer(302, "Location: /0\r\n", "")],
            6 => vec![Act::Pause(300), ok("late")],
            _ => vec![ok("hello")],
        }
    });
    for model in ["open", "closed"] {
        let before = ledger.requests();
        let mut plan = plan(port, "/{{seq}}", 600);
        plan["workers"] = json!(2);
        plan["timeout_ns"] = json!(200 * MS);
        if model == "open" {
            plan["workload"] = open(800, 1200);
            plan["max_in_flight"] = json!(40);
        } else {
            plan["workload"]["stages"][0] = json!({"duration_ns": 600 * MS, "from": 10, "to": 30});
        }
        let written = run(&plan);
        let errors = written.errors();
        for kind in ["status 500", "short_body", "header_timeout", ""] {
            assert!(errors[kind] > 10, "{errors:?}");
        }
        written.check_reached(ledger.requests() - before);
    }
}

/// What is due is told within its second, although no answer has come yet.
#[test]
fn counts_do_not_wait_for_answers() {
    let (port, _) = serve(|_| vec![Act::Stall]);
    let mut plan = plan(port, "/", 0);
    plan["workload"] = open(100, 900);
    plan["timeout_ns"] = json!(20_000 * MS);
    let running = start(&plan);
    let mut written = Written::default();
    while written.count("due") < 100 {
        let Next::Frames(frames) = running.next(Duration::from_millis(1500)) else { panic!("ended") };
        assert!(!frames.is_empty(), "nothing within the second: {written:?}");
        frames.iter().for_each(|(kind, payload)| written.add(*kind, payload));
    }
    assert_eq!((written.rows.len(), written.count("sent"), running.snapshot().in_flight), (0, 100, 100));
    running.stop(0);
    let rest = finish(&running);
    assert_eq!((rest.rows.len(), rest.outcomes()[&5]), (100, 100));
}

/// An answer that comes late adds to the window of the second in which its request was due.
#[test]
fn late_answers_belong_to_their_due_second() {
    let (port, _) = serve(|_| vec![Act::Pause(1300), ok("")]);
    let mut plan = plan(port, "/", 0);
    plan["workload"] = open(5, 500);
    let written = run(&plan);
    assert_eq!(written.only_error(), "");
    assert!(written.windows.iter().all(|window| window["second"].int() == 0));
    assert!(written.windows.iter().all(|window| window["response_min_ns"].int() >= 1300 * MS));
}

/// A reader that sleeps for a while holds nobody up and loses nothing.
#[test]
fn a_slow_reader_holds_nobody_up() {
    let (port, ledger) = serve(|_| vec![ok("")]);
    let written = {
        let mut plan = plan(port, "/", 100);
        plan["workload"]["stages"][0]["duration_ns"] = json!(600 * MS);
        let running = start(&plan);
        std::thread::sleep(Duration::from_millis(900));
        finish(&running)
    };
    assert_eq!(written.rows.len() as i64, written.count("due"));
    assert_eq!(ledger.requests(), written.rows.len());
    assert_eq!(written.reading("rows_dropped").iter().sum::<f64>(), 0.0);
}

/// Each worker tells its health each second, and no lag where nothing was started.
#[test]
fn health_is_told() {
    let (port, _) = serve(|_| vec![ok("")]);
    let mut plan = plan(port, "/", 0);
    plan["workload"] = json!({"model": "open", "arrivals": "uniform", "stages": [
        {"duration_ns": 900 * MS, "from": 100, "to": 100}, {"duration_ns": 1300 * MS, "from": 0, "to": 0}]});
    let written = run(&plan);
    assert_eq!(written.reading("lag_p99_ns").len(), 1, "{:?}", written.health);
    assert!(written.reading("lag_max_ns")[0] >= written.reading("lag_p50_ns")[0]);
    assert_eq!(written.reading("planned_rate"), [0.0, 0.0, 0.0]);
    assert_eq!(written.reading("users").last(), Some(&0.0));
    assert!(
        written.health.iter().all(|reading| reading["source"].text() == "generator" && reading["worker"].text() == "0")
    );
}
