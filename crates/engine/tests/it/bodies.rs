//! Bodies that are made of files on their way out, packed bodies on their way in.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::reading::{MS, open, plan, run};
use crate::server::{Act, answer, serve, text};

fn file(name: &str, content: &[u8]) -> (PathBuf, Value) {
    let path = std::env::temp_dir().join(format!("surgeline-body-{}-{name}", std::process::id()));
    fs::write(&path, content).unwrap();
    let told = json!({"path": path, "length": content.len()});
    (path, told)
}

fn noise(size: usize) -> Vec<u8> {
    (0..size as u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Files of all sizes arrive as they are between the texts around them, with their length or as chunks, and again after
/// a redirect that asks for it; the connection is kept.
#[test]
fn files_arrive_as_they_are() {
    let (big, small) = (noise(700_001), noise(1000));
    let (paths, files): (Vec<_>, Vec<_>) = [file("big", &big), file("small", &small)].into_iter().unzip();
    for (number, chunked, content) in [(0, false, &big), (0, true, &big), (1, false, &small), (1, true, &small)] {
        let wanted = [b"<7>".as_slice(), content, b"</7>"].concat();
        let (port, ledger) = serve(move |incoming| match incoming.path.as_str() {
            _ if incoming.body != wanted => vec![answer(400, "", "")],
            "/" => vec![answer(307, "Location: /again\r\n", "")],
            _ => vec![answer(200, "", "")],
        });
        let mut plan = plan(port, "/", 0);
        plan["workload"] = open(8, 60);
        plan["variables"] = json!({"id": "7"});
        plan["files"] = json!(files);
        plan["scenarios"][0]["steps"][0]["method"] = json!("POST");
        plan["scenarios"][0]["steps"][0]["upload"] = json!({"chunked": chunked, "parts": [
            {"text": "<{{id}}>", "place": "plain"}, {"file": number}, {"text": "</{{id}}>", "place": "plain"}]});
        let written = run(&plan);
        assert_eq!((written.rows.len(), written.only_error()), (8, ""), "{number} {chunked}");
        assert_eq!((ledger.path("/"), ledger.path("/again")), (8, 8));
        assert!(ledger.connections() <= 8, "{}", ledger.connections());
        let head = ledger.heads.lock().unwrap()[0].to_ascii_lowercase();
        assert_eq!(head.contains("transfer-encoding: chunked"), chunked);
        assert_eq!(head.contains("content-length"), !chunked);
        assert!(written.rows.iter().all(|row| row["bytes_out"].int() > 2 * content.len() as i64));
        written.check();
    }
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
}

/// A server that answers before it has read the body, and closes, has answered; one that only closes has not. A file
/// that becomes shorter while the run lasts breaks requests of its own kind. The run goes on through all of it.
#[test]
fn bodies_may_not_be_wanted() {
    let (path, told) = file("unwanted", &noise(8_000_000));
    let mut step = json!({"endpoint": 0, "method": "PUT", "path": "/", "upload": {"parts": [{"file": 0}]}});
    step["timeout_ns"] = json!(3_000 * MS);
    for (said, kind) in [("HTTP/1.1 413 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "status 413"), ("", "")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut plan = plan(listener.local_addr().unwrap().port(), "/", 0);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 1000]);
                let _ = stream.write_all(said.as_bytes());
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.set_read_timeout(Some(std::time::Duration::from_millis(300)));
                if !said.is_empty() {
                    let _ = std::io::copy(&mut (&mut stream).take(20_000_000), &mut std::io::sink());
                }
            }
        });
        plan["workload"] = open(5, 50);
        plan["files"] = json!([told]);
        plan["scenarios"][0]["steps"][0] = step.clone();
        let written = run(&plan);
        written.check();
        assert_eq!(written.rows.len(), 5);
        for row in &written.rows {
            let found = row["error"].text();
            let broken = ["write_failed", "reset_before_headers", "reset_mid_body"].contains(&found);
            assert!(if kind.is_empty() { broken } else { found == kind }, "{found}");
        }
    }
    let (port, _) = serve(|_| vec![answer(200, "", "")]);
    let mut plan = plan(port, "/", 300);
    plan["files"] = json!([told]);
    plan["scenarios"][0]["steps"][0] = step;
    plan["scenarios"][0]["think_time_ns"] = json!([20 * MS, 20 * MS]);
    let running = crate::reading::start(&plan);
    fs::write(&path, b"short").unwrap();
    let written = crate::reading::finish(&running);
    assert!(written.errors().contains_key("body_unread"), "{:?}", written.errors());
    written.check();
    fs::remove_file(&path).unwrap();
}

/// A packed answer is unpacked where a check or an extractor looks into it, and only there; what cannot be unpacked is a
/// failure of its own kind, behind a wrong status and before what the body lacks.
#[test]
fn packed_answers_are_unpacked_where_somebody_looks() {
    let gzip: &[u8] =
        &[31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 202, 76, 81, 178, 50, 53, 172, 5, 0, 30, 33, 57, 76, 9, 0, 0, 0];
    let (port, _) = serve(move |incoming| {
        let body = if incoming.path == "/broken" { &gzip[..15] } else { gzip };
        let status = if incoming.path == "/status" { 500 } else { 200 };
        let head = format!("HTTP/1.1 {status} x\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
        vec![text(&head), Act::Send(body.to_vec())]
    });
    let looks = json!({"json": [["$.id", 51]]});
    let takes = json!([{"var": "id", "from": "json", "expr": "$.id"}]);
    for (path, check, extract, kind) in [
        ("/", looks.clone(), takes.clone(), ""),
        ("/", json!({"json": [["$.id", 52]]}), json!([]), "check json $.id"),
        ("/broken", looks.clone(), json!([]), "bad_encoding"),
        ("/broken", json!({}), takes, "bad_encoding"),
        ("/broken", json!({}), json!([]), ""),
        ("/status", looks, json!([]), "status 500"),
    ] {
        let mut plan = plan(port, path, 0);
        plan["workload"] = open(3, 30);
        plan["scenarios"][0]["steps"][0]["check"] = check;
        plan["scenarios"][0]["steps"][0]["extract"] = extract;
        let written = run(&plan);
        assert_eq!(written.only_error(), kind, "{path}");
        written.check();
    }
}

const MIB: usize = 1 << 20;

/// A body longer than is kept is no wrong answer: what was seen of it may be enough, and where it is not, that is a kind
/// of its own. Sizes are of the whole body.
#[test]
fn long_bodies_are_judged_by_what_was_seen() {
    let whole = [b"<begin>".as_slice(), &vec![b'x'; 17 * MIB], b"<end>"].concat();
    let length = whole.len();
    let (port, _) = serve(move |incoming| match incoming.path.as_str() {
        "/json" => vec![answer(200, "", &format!("{{\"id\": 5, \"pad\": \"{}\"}}", "y".repeat(17 * MIB)))],
        _ => vec![answer(200, "", std::str::from_utf8(&whole).unwrap())],
    });
    let from = |kind: &str, expr: &str| json!([{"var": "v", "from": kind, "expr": expr}]);
    for (path, check, extract, kind) in [
        ("/", json!({"body_contains": ["<begin>"], "size": [length, length]}), json!([]), ""),
        ("/", json!({"body_contains": ["<end>"]}), json!([]), "body_not_kept"),
        ("/", json!({"body_not": ["<end>"]}), json!([]), "body_not_kept"),
        ("/", json!({"body_not": ["<begin>"], "body_contains": ["<end>"]}), json!([]), "check body not <begin>"),
        ("/", json!({"body_regex": ["<b.*?>"]}), json!([]), ""),
        ("/", json!({"body_regex": ["x$"]}), json!([]), "body_not_kept"),
        ("/", json!({"body_contains": ["<end>"], "status": [[500, 500]]}), json!([]), "status 200"),
        ("/", json!({}), from("regex", "<(b.*?)>"), ""),
        ("/", json!({}), from("regex", "<(e.*?)>"), "body_not_kept"),
        ("/", json!({}), from("header", "x-absent"), "extract_missing"),
        ("/json", json!({"json": [["$.id", 5]]}), json!([]), "body_not_kept"),
        ("/json", json!({"json": [["$.absent", "exists", false]]}), json!([]), "body_not_kept"),
        ("/json", json!({}), from("json", "$.id"), "body_not_kept"),
    ] {
        let mut plan = plan(port, path, 0);
        plan["workload"] = open(1, 30);
        plan["max_body_bytes"] = json!(64 * MIB);
        plan["timeout_ns"] = json!(20_000 * MS);
        plan["grace_ns"] = json!(20_000 * MS);
        plan["scenarios"][0]["steps"][0]["check"] = check.clone();
        plan["scenarios"][0]["steps"][0]["extract"] = extract;
        let written = run(&plan);
        assert_eq!(written.only_error(), kind, "{path} {check}");
        let outcome = match kind {
            "" => 0,
            "body_not_kept" => 2,
            _ => 1,
        };
        assert_eq!(written.column("outcome"), [outcome]);
        written.check();
    }
}

/// Bodies that are kept share their room: of twenty that come at once and are 15 MiB long, those for which there is room
/// are right, the others are not called wrong; what redirects before them took is there again.
#[test]
fn kept_bodies_share_their_room() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(20));
    let piece = std::sync::Arc::new(vec![b'x'; 15 * MIB]);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (barrier, piece) = (barrier.clone(), piece.clone());
            std::thread::spawn(move || {
                for first in ["302 x\r\nLocation: /next", "200 x"] {
                    if !matches!(stream.read(&mut [0; 1000]), Ok(size) if size > 0) {
                        return;
                    }
                    let head = format!("HTTP/1.1 {first}\r\nContent-Length: {}\r\n\r\n", piece.len() + 1);
                    let _ = stream.write_all(head.as_bytes());
                    let _ = stream.write_all(&piece);
                    barrier.wait();
                    let _ = stream.write_all(b"y");
                }
            });
        }
    });
    let mut plan = plan(port, "/", 0);
    plan["max_body_bytes"] = json!(64 * MIB);
    plan["workload"] = open(20, 20);
    (plan["timeout_ns"], plan["grace_ns"]) = (json!(60_000 * MS), json!(60_000 * MS));
    plan["scenarios"][0]["steps"][0]["check"] = json!({"body_contains": ["xy"]});
    // Not held to the books: twenty long redirects leave more time between two hops than those allow.
    let written = crate::reading::finish(&crate::reading::start(&plan));
    let errors = written.errors();
    let of = |kind: &str| errors.get(kind).copied().unwrap_or(0);
    let (right, unseen) = (of(""), of("body_not_kept"));
    assert!(right + unseen == 20 && right >= 6 && unseen > 0, "{errors:?}");
}
