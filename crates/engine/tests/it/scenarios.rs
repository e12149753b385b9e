//! What a scenario makes of its answers: checks, variables, redirects, cookies, evidence.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::reading::{MS, plan, run};
use crate::server::{Act, Incoming, answer, ok, serve};

fn redirect(status: u16, to: &str) -> Vec<Act> {
    vec![answer(status, &format!("Location: {to}\r\n"), "")]
}

/// A plan of ten evenly spaced iterations of these steps, and time for the last of them.
fn steps(port: u16, steps: Value) -> Value {
    let mut plan = plan(port, "/", 0);
    plan["scenarios"][0]["steps"] = steps;
    plan["endpoints"] = json!(["one", "two"]);
    plan["workload"] = json!({"model": "open", "arrivals": "uniform", "stages": [
        {"duration_ns": 100 * MS, "from": 100, "to": 100}, {"duration_ns": 200 * MS, "from": 0, "to": 0}]});
    plan
}

/// What one step extracts, the next one sends, escaped for its place.
#[test]
fn variables_pass_from_step_to_step() {
    let (port, ledger) = serve(|incoming: &Incoming| match incoming.path.as_str() {
        "/list" => vec![answer(
            200,
            "X-Token: tok/1\r\nSet-Cookie: sid=s%1; Path=/\r\n",
            r#"{"items":[{"id":"a b"}],"n":17} csrf=Z9"#,
        )],
        "/item/a%20b/17?t=tok%2F1" => vec![ok(&String::from_utf8_lossy(&incoming.body))],
        other => vec![answer(404, "", other)],
    });
    let written = run(&steps(
        port,
        json!([
            {"endpoint": 0, "method": "GET", "path": "/list", "extract": [
                {"var": "token", "from": "header", "expr": "x-token"}, {"var": "csrf", "from": "regex", "expr": "csrf=(\\w+)"},
                {"var": "sid", "from": "cookie", "expr": "sid"}]},
            {"endpoint": 0, "method": "GET", "path": "/list"},
        ]),
    ));
    assert_eq!(written.only_error(), "");
    let json_list = || {
        serve(|incoming: &Incoming| match incoming.path.as_str() {
            "/list" => vec![answer(
                200,
                "X-Token: tok/1\r\nSet-Cookie: sid=s%1; Path=/\r\n",
                r#"{"items":[{"id":"a b"}],"n":17}"#,
            )],
            "/item/a%20b/17?t=tok%2F1" => vec![ok(&String::from_utf8_lossy(&incoming.body))],
            other => vec![answer(404, "", other)],
        })
    };
    let (port, second) = json_list();
    let written = run(&steps(
        port,
        json!([
            {"endpoint": 0, "method": "GET", "path": "/list", "extract": [
                {"var": "id", "from": "json", "expr": "$.items[0].id"}, {"var": "n", "from": "json", "expr": "$.n"},
                {"var": "token", "from": "header", "expr": "x-token"}]},
            {"endpoint": 1, "method": "POST", "path": "/item/{{id}}/{{n}}?t={{token}}", "headers": [["Content-Type", "application/json"]],
             "body": "{\"id\": \"{{id}}\", \"n\": {{n}}}", "check": {"status": [[200, 200]], "json": [["$.id", "a b"], ["$.n", 17]],
             "body_contains": ["\"{{id}}\""]}},
        ]),
    ));
    assert_eq!(written.only_error(), "");
    assert_eq!((ledger.path("/list"), second.path("/item/a%20b/17?t=tok%2F1")), (20, 10));
    let urls: Vec<&str> = written.rows.iter().map(|row| row["url"].text()).filter(|url| url.contains("item")).collect();
    assert!(
        urls.len() == 10 && urls.iter().all(|url| *url == format!("http://127.0.0.1:{port}/item/a%20b/17?t=tok%2F1"))
    );
}

/// What could not be extracted ends the iteration: the later step never becomes due.
#[test]
fn a_missing_variable_ends_the_iteration() {
    let (port, ledger) = serve(|_| vec![ok("{}")]);
    let two = json!([
        {"endpoint": 0, "method": "GET", "path": "/a", "extract": [{"var": "id", "from": "json", "expr": "$.id"}]},
        {"endpoint": 1, "method": "GET", "path": "/b/{{id}}"},
    ]);
    let written = run(&steps(port, two));
    assert_eq!((written.only_error(), written.rows.len(), ledger.requests()), ("extract_missing", 10, 10));
    assert_eq!(written.outcomes()[&1], 10);
}

/// A failed check alone does not: the next step runs.
#[test]
fn a_failed_check_lets_the_next_step_run() {
    let (port, ledger) = serve(|incoming| vec![if incoming.path == "/a" { answer(500, "", "") } else { ok("x") }]);
    let two = json!([
        {"endpoint": 0, "method": "GET", "path": "/a"},
        {"endpoint": 1, "method": "GET", "path": "/b", "check": {"time_ns": 1}},
    ]);
    let written = run(&steps(port, two));
    assert_eq!(written.errors().into_iter().collect::<Vec<_>>(), [("check time", 10), ("status 500", 10)]);
    assert_eq!((ledger.requests(), written.outcomes()[&1]), (20, 20));
}

/// A chain of redirects is one row; its hops are counted and reach the server.
#[test]
fn redirects_are_followed_at_home() {
    let (port, ledger) = serve(|incoming: &Incoming| match incoming.path.as_str() {
        "/a/start" => redirect(302, "../b?x=1"),
        "/b?x=1" => redirect(301, "c"),
        "/c" if incoming.method == "GET" && incoming.body.is_empty() => vec![ok("end")],
        _ => vec![answer(404, "", "")],
    });
    let post = json!([{"endpoint": 0, "method": "POST", "path": "/a/start", "body": "payload", "check": {"status": [[200, 200]]}}]);
    let written = run(&steps(port, post));
    assert_eq!((written.only_error(), written.rows.len(), written.count("hops")), ("", 10, 20));
    assert_eq!(ledger.requests(), 30);
    assert!(written.rows.iter().all(|row| row["url"].text().ends_with("/a/start") && row["method"].text() == "POST"));
}

/// 307 keeps method and body, random parts included; cookies set on the way go along.
#[test]
fn redirects_keep_what_they_should() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let bodies = seen.clone();
    let (port, ledger) = serve(move |incoming: &Incoming| {
        bodies.lock().unwrap().push((incoming.method.clone(), incoming.body.clone()));
        match incoming.path.as_str() {
            "/a" => vec![answer(307, "Location: /b\r\nSet-Cookie: way=1\r\n", "")],
            "/b" if incoming.head.contains("\r\nCookie: way=1\r\n") => vec![ok("end")],
            _ => vec![answer(404, "", "")],
        }
    });
    let put = json!([{"endpoint": 0, "method": "PUT", "path": "/a", "body": "{{uuid}} {{seq}}"}]);
    let written = run(&steps(port, put));
    assert_eq!((written.only_error(), ledger.requests()), ("", 20));
    let seen = seen.lock().unwrap();
    let bodies: std::collections::BTreeSet<_> = seen.iter().map(|(_, body)| body).collect();
    assert!(seen.iter().all(|(method, _)| method == "PUT"));
    assert_eq!(bodies.len(), 10, "each body was sent twice");
}

/// Loops end, other origins are never contacted, and without following a redirect is the answer.
#[test]
fn redirects_have_limits() {
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let elsewhere = canary.local_addr().unwrap().port();
    let (port, ledger) = serve(move |incoming: &Incoming| match incoming.path.as_str() {
        "/loop" => redirect(302, "/loop"),
        "/away" => redirect(302, &format!("http://127.0.0.1:{elsewhere}/")),
        "/file" => redirect(302, "file:///etc/passwd"),
        _ => redirect(302, "https://127.0.0.1/"),
    });
    let get = |path: &str| json!([{"endpoint": 0, "method": "GET", "path": path}]);
    let written = run(&steps(port, get("/loop")));
    assert_eq!((written.only_error(), written.count("hops"), ledger.requests()), ("redirect_loop", 50, 60));
    assert_eq!(written.outcomes()[&1], 10);
    for path in ["/away", "/file", "/tls"] {
        let written = run(&steps(port, get(path)));
        assert_eq!((written.only_error(), written.count("hops")), ("redirect_refused", 0));
    }
    assert!(canary.accept().is_err(), "the other origin was contacted");
    let mut plan = steps(port, get("/away"));
    plan["max_redirects"] = json!(0);
    let written = run(&plan);
    assert_eq!((written.only_error(), written.rows[0]["status"].int()), ("", 302));
}

/// Time that runs out behind a redirect is the whole chain's.
#[test]
fn a_chain_has_one_timeout() {
    let (port, _) = serve(|incoming: &Incoming| match incoming.path.as_str() {
        "/a" => vec![Act::Pause(100), answer(302, "Location: /b\r\n", "")],
        _ => vec![Act::Stall],
    });
    let mut plan = steps(port, json!([{"endpoint": 0, "method": "GET", "path": "/a"}]));
    plan["timeout_ns"] = json!(250 * MS);
    let written = run(&plan);
    assert_eq!(written.only_error(), "total_timeout");
    assert!(
        written.rows.iter().all(|row| (250 * MS..350 * MS).contains(&(row["end_ns"].int() - row["start_ns"].int())))
    );
}

/// A closed user keeps its cookies, an open iteration begins without any.
#[test]
fn cookies_belong_to_a_user() {
    let script = || {
        let number = AtomicUsize::new(0);
        move |incoming: &Incoming| {
            let own = incoming.head.lines().find_map(|line| line.strip_prefix("Cookie: ")).unwrap_or("none").to_owned();
            let fresh = format!("Set-Cookie: id={}\r\n", number.fetch_add(1, Ordering::SeqCst));
            vec![if own == "none" { answer(200, &fresh, "fresh") } else { ok(&own) }]
        }
    };
    let (port, ledger) = serve(script());
    let mut closed = plan(port, "/", 100);
    closed["workload"]["stages"][0] = json!({"duration_ns": 100 * MS, "from": 3, "to": 3});
    assert_eq!(run(&closed).only_error(), "");
    let without = |ledger: &crate::server::Ledger| {
        ledger.heads.lock().unwrap().iter().filter(|head| !head.contains("Cookie:")).count()
    };
    assert_eq!(without(&ledger), 3);
    let (port, ledger) = serve(script());
    run(&steps(
        port,
        json!([{"endpoint": 0, "method": "GET", "path": "/a"}, {"endpoint": 1, "method": "GET", "path": "/b"}]),
    ));
    assert_eq!((without(&ledger), ledger.requests()), (10, 20));
}

/// Evidence has the first, the failed and the slowest, without secrets, with what was sent and what came.
#[test]
fn evidence_is_kept() {
    let (port, _) = serve(|incoming: &Incoming| match incoming.nth {
        3 => vec![answer(500, "", "broken")],
        5 => vec![Act::Pause(30), ok("slow")],
        _ => vec![answer(200, "Set-Cookie: s=s3cret\r\nX-A: b\r\n", "{\"id\": 1}")],
    });
    let mut plan = plan(port, "/x/{{seq}}", 150);
    plan["headers"] = json!([["Authorization", "Bearer s3cret"], ["user-agent", "t"]]);
    plan["scenarios"][0]["steps"][0]["method"] = json!("POST");
    plan["scenarios"][0]["steps"][0]["body"] = json!("n={{seq}}");
    let written = run(&plan);
    assert!(!format!("{:?}", written.exchanges).contains("s3cret"));
    let of = |why: &str| written.exchanges.iter().filter(|exchange| exchange["why"] == why).collect::<Vec<_>>();
    let first = of("first")[0];
    assert_eq!(
        (&first["endpoint"], &first["request"]["method"], &first["request"]["body_head"]),
        (&json!("one"), &json!("POST"), &json!("n=0"))
    );
    assert!(first["request"]["url"].as_str().unwrap().ends_with("/x/0"));
    assert_eq!((&first["answer"]["body_head"], &first["answer"]["body_bytes"]), (&json!("{\"id\": 1}"), &json!(9)));
    assert_eq!(first["answer"]["body_sha256"].as_str().unwrap().len(), 64);
    let failed = of("failed")[0];
    assert_eq!((&failed["error"], &failed["answer"]["body_head"]), (&json!("status 500"), &json!("broken")));
    assert!(of("slowest").iter().any(|exchange| exchange["answer"]["body_head"] == "slow"));
    assert!(written.exchanges.len() < 20);
}

/// A plan that cannot be run is refused with the place and the reason.
#[test]
fn bad_plans_are_refused() {
    let refused = |change: fn(&mut Value)| {
        let mut plan = plan(1, "/", 10);
        change(&mut plan);
        surgeline_engine::run::Running::start(&plan.to_string()).err().expect("refused")
    };
    for (change, part) in [
        ((|plan| plan["version"] = json!(2)) as fn(&mut Value), "version"),
        (|plan| plan["surprise"] = json!(2), "surprise"),
        (|plan| plan["endpoints"] = json!([]), "endpoints"),
        (|plan| plan["workload"]["stages"] = json!([]), "stages"),
        (|plan| plan["workload"]["stages"][0]["from"] = json!(-1), "levels"),
        (|plan| plan["scenarios"] = json!([]), "scenario"),
        (|plan| plan["scenarios"][0]["weight"] = json!(0), "weight"),
        (|plan| plan["scenarios"][0]["steps"][0]["path"] = json!("x"), "step 1"),
        (|plan| plan["scenarios"][0]["steps"][0]["path"] = json!("/{{later}}"), "later"),
        (|plan| plan["scenarios"][0]["steps"][0]["endpoint"] = json!(9), "endpoint 9"),
        (|plan| plan["target"]["addresses"] = json!(["localhost"]), "localhost"),
        (|plan| plan["share"] = json!({"index": 1, "of": 1}), "share"),
        (
            |plan| plan["scenarios"][0]["steps"][0]["extract"] = json!([{"var": "a", "from": "json", "expr": "$["}]),
            "$[",
        ),
    ] {
        let sentence = refused(change);
        assert!(sentence.contains(part) && !sentence.contains('\n'), "{sentence}");
    }
}
