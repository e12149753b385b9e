//! What an operator may do while a run lasts.

use std::time::{Duration, Instant};

use serde_json::json;
use surgeline_engine::clock::monotonic;

use crate::reading::{MS, Written, finish, open, plan, start, until};
use crate::server::{Act, ok, serve};

fn sleep(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn limits(written: &Written) -> Vec<(String, i64, i64)> {
    let part = |event: &serde_json::Value, name: &str| event[name].as_i64().unwrap();
    written
        .events
        .iter()
        .map(|event| (event["kind"].as_str().unwrap().to_owned(), part(event, "stage"), part(event, "at_ns") / MS))
        .collect()
}

/// After a stop nothing is started; what is in flight may end within the grace, and is aborted after it.
#[test]
fn stop_lets_finish_or_aborts() {
    for (grace, outcome) in [(5_000, 0), (100, 5)] {
        let (port, ledger) = serve(|_| vec![Act::Pause(1_500), ok("")]);
        let mut plan = plan(port, "/", 0);
        plan["workload"] = json!({"model": "closed", "stages": [{"duration_ns": 20_000 * MS, "from": 5, "to": 5}]});
        let anchor = plan["clock_monotonic_ns"].as_i64().unwrap();
        let running = start(&plan);
        until(|| ledger.requests() == 5);
        let (begun, stopped) = (Instant::now(), monotonic() - anchor);
        running.stop(grace * MS);
        let written = finish(&running);
        written.check();
        assert_eq!(written.outcomes().into_iter().collect::<Vec<_>>(), [(outcome, 5)]);
        assert_eq!(ledger.requests(), 5);
        let took = begun.elapsed().as_millis() as i64;
        assert!(if outcome == 5 { (100..1_500).contains(&took) } else { took < grace }, "{took}");
        if outcome == 5 {
            assert!(written.rows.iter().all(|row| row["end_ns"].int() == -1 && row["start_ns"].int() >= 0));
        }
        let events = limits(&written);
        assert_eq!((events[0].0.as_str(), events[1].0.as_str()), ("stage_started", "stage_ended"));
        assert!((stopped / MS..stopped / MS + took + 2).contains(&events[1].2), "{stopped} {events:?}");
    }
}

/// The end of the last stage is the same as a stop, with the plan's grace.
#[test]
fn the_last_stage_ends_the_run() {
    let (port, _) = serve(|incoming| if incoming.nth == 0 { vec![ok("")] } else { vec![Act::Stall] });
    let mut plan = plan(port, "/", 0);
    plan["workload"] = open(10, 100);
    plan["grace_ns"] = json!(200 * MS);
    plan["timeout_ns"] = json!(10_000 * MS);
    let begun = Instant::now();
    let written = finish(&start(&plan));
    written.check();
    assert!((300..5_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert!(written.outcomes()[&5] >= 1, "{:?}", written.outcomes());
    assert_eq!(limits(&written), [("stage_started".to_owned(), 0, 0), ("stage_ended".to_owned(), 0, 100)]);
}

/// A stop after the last stage cuts the grace that already runs.
#[test]
fn a_stop_cuts_the_grace() {
    let (port, _) = serve(|_| vec![Act::Stall]);
    let mut plan = plan(port, "/", 0);
    plan["workload"] = open(10, 100);
    plan["timeout_ns"] = json!(20_000 * MS);
    let begun = Instant::now();
    let running = start(&plan);
    sleep(300);
    running.stop(0);
    let written = finish(&running);
    written.check();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(written.outcomes()[&5], 10);
}

/// Dropping a run ends it at once, with its connections.
#[test]
fn dropping_ends_the_run() {
    let (port, ledger) = serve(|_| vec![ok("")]);
    let begun = Instant::now();
    let running = start(&plan(port, "/", 60_000));
    until(|| ledger.requests() > 0);
    drop(running);
    let seen = ledger.requests();
    assert!(begun.elapsed() < Duration::from_secs(30));
    sleep(100);
    // What was written before may be read after.
    assert!(ledger.requests() <= seen + 1);
}

/// While paused nothing is due; afterwards the schedule goes on where it stood, and its end has moved.
#[test]
fn a_pause_moves_the_schedule() {
    for model in ["open", "closed"] {
        let (port, ledger) = serve(|_| vec![Act::Pause(1), ok("")]);
        let mut plan = plan(port, "/", 1_500);
        if model == "open" {
            plan["workload"] = open(200, 1_500);
        }
        let running = start(&plan);
        until(|| ledger.requests() > 10);
        let begun = Instant::now();
        running.pause();
        sleep(500);
        running.resume();
        let paused = begun.elapsed().as_millis() as i64;
        let written = finish(&running);
        written.check();
        let mut due = written.column("intended_ns");
        due.sort_unstable();
        let gap = due.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        // The thread that sends may hear of the one and of the other a moment later.
        assert!((250 * MS..(paused + 1_000) * MS).contains(&gap), "{model}: {gap}");
        if model == "open" {
            assert_eq!(due.len(), 200);
        }
        let events = limits(&written);
        assert!((1_750..paused + 2_500).contains(&events[1].2), "{events:?}");
    }
}

/// Scaling changes the rate, or the users, from then on.
#[test]
fn scaling_changes_the_load() {
    let (port, ledger) = serve(|_| vec![Act::Pause(5), ok("")]);
    let mut open_plan = plan(port, "/", 0);
    open_plan["workload"] = open(100, 1000);
    let running = start(&open_plan);
    sleep(500);
    running.scale(4.0).unwrap();
    let written = finish(&running);
    written.check();
    assert!((180..280).contains(&written.rows.len()), "{}", written.rows.len());
    let mut closed = plan(port, "/", 800);
    closed["workload"]["stages"][0] = json!({"duration_ns": 800 * MS, "from": 2, "to": 2});
    let running = start(&closed);
    sleep(200);
    running.scale(3.0).unwrap();
    sleep(200);
    assert_eq!(running.snapshot().users, 6);
    running.scale(0.5).unwrap();
    sleep(100);
    assert_eq!(running.snapshot().users, 1);
    finish(&running).check();
    assert!(ledger.most_busy.load(std::sync::atomic::Ordering::SeqCst) >= 6);
    assert!(running.scale(f64::NAN).is_err() && running.scale(-1.0).is_err());
}

/// A stage that was over when it was to be ended ends no other; and it keeps its own end, however late that is told.
#[test]
fn only_the_stage_that_is_meant_is_ended() {
    for model in ["open", "closed"] {
        let (port, _) = serve(|_| vec![ok("")]);
        let mut plan = plan(port, "/", 0);
        // So few requests that nothing wakes the worker between the stages.
        plan["workload"] = json!({"model": model, "stages": [
            {"duration_ns": 100 * MS, "from": 0.01, "to": 0.01}, {"duration_ns": 300 * MS, "from": 0.01, "to": 0.01},
            {"duration_ns": 20_000 * MS, "from": 0.01, "to": 0.01}]});
        let running = start(&plan);
        sleep(250);
        running.next_stage(Some(0));
        sleep(350);
        running.next_stage(Some(2));
        let written = finish(&running);
        let at: Vec<i64> = limits(&written).iter().map(|(_, _, at)| *at).collect();
        assert_eq!(at.len(), 6, "{at:?}");
        assert_eq!((at[0], at[1], at[2]), (0, 100, 100), "{at:?}");
        assert_eq!((at[3], at[4]), (400, 400), "{at:?}");
        assert!((590..5_000).contains(&at[5]), "{at:?}");
    }
}

/// Stages can be skipped and added.
#[test]
fn stages_can_be_skipped_and_added() {
    for model in ["open", "closed"] {
        let (port, _) = serve(|_| vec![Act::Pause(1), ok("")]);
        let mut plan = plan(port, "/", 0);
        plan["workload"] = json!({"model": model, "stages": [
            {"duration_ns": 20_000 * MS, "from": 20, "to": 20}, {"duration_ns": 200 * MS, "from": 40, "to": 40}]});
        let running = start(&plan);
        sleep(200);
        running.append_stage(200 * MS, 100.0, 100.0).unwrap();
        assert!(running.append_stage(0, 1.0, 1.0).is_err());
        running.next_stage(None);
        let written = finish(&running);
        written.check();
        let events = limits(&written);
        let kinds: Vec<(&str, i64)> = events.iter().map(|(kind, stage, _)| (kind.as_str(), *stage)).collect();
        let (began, ended) = ("stage_started", "stage_ended");
        assert_eq!(kinds, [(began, 0), (ended, 0), (began, 1), (ended, 1), (began, 2), (ended, 2)]);
        assert!((550..1500).contains(&events[5].2), "{events:?}");
        assert!(written.rows.iter().any(|row| row["stage"].int() == 2));
    }
}
