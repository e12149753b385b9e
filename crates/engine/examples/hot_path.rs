//! So many requests through a whole engine, against a server that answers at once: what `benchmarks/instructions.py`
//! counts the instructions of.
//!
//!     hot_path small|plan SECONDS
//!
//! Prints how many requests ended. The server is another process of this program, so that none of its work is counted.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use surgeline_engine::clock::monotonic;
use surgeline_engine::run::Running;
use surgeline_engine::sink::Next;

const BODY: &str = r#"{"id":12345,"name":"surgeline","tags":["load","test"],"ok":true,"price":12.5,"n":100,"x":"abc"}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next().ok_or("small or plan?")?;
    if case == "serve" {
        return serve();
    }
    let seconds: i64 = arguments.next().ok_or("how many seconds?")?.parse()?;
    let mut server =
        Command::new(std::env::current_exe()?).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut port = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut port)?;
    let running = Running::start(&plan(&case, port.trim().parse()?, seconds)?.to_string())?;
    let mut bytes = 0;
    while let Next::Frames(frames) = running.next(Duration::from_millis(250)) {
        bytes += frames.iter().map(|(_, payload)| payload.len()).sum::<usize>();
    }
    println!("{{\"requests\": {}, \"bytes\": {bytes}}}", running.snapshot().ended);
    drop(server.stdin.take());
    server.wait()?;
    Ok(())
}

/// One endpoint; or eight with templates, a feed, and a check of status and JSON each.
fn plan(case: &str, port: u16, seconds: i64) -> Result<Value, Box<dyn Error>> {
    let steps: Vec<Value> = match case {
        "small" => vec![json!({"endpoint": 0, "method": "GET", "path": "/json"})],
        "plan" => (0..8)
            .map(|number| {
                let path = format!("/part{number}/{{{{rows.id}}}}?q={{{{rows.term}}}}&n={{{{int(1, 1000)}}}}");
                let check = json!({"status": [[200, 200]], "json": [["$.name", "surgeline"]]});
                json!({"endpoint": number, "method": "GET", "path": path, "check": check})
            })
            .collect(),
        other => return Err(format!("{other} is neither small nor plan").into()),
    };
    let endpoints: Vec<String> = (0..steps.len()).map(|number| format!("GET /part{number}")).collect();
    let rows: Vec<Value> = (0..100).map(|number| json!([number.to_string(), format!("term{number}")])).collect();
    let feed = json!({"name": "rows", "columns": ["id", "term"], "rows": rows, "order": "sequential", "wraps": true});
    let host = format!("127.0.0.1:{port}");
    let target = json!({"scheme": "http", "host": "127.0.0.1", "port": port, "host_header": host,
                        "addresses": ["127.0.0.1"], "sni": null, "insecure": false, "ca_file": null});
    Ok(json!({
        "version": 1, "run_id": "instructions", "seed": 42, "workers": 1, "share": {"index": 0, "of": 1},
        "target": target, "headers": [["user-agent", "surgeline"]], "timeout_ns": 30_000_000_000_i64,
        "max_redirects": 5, "max_in_flight": 1000, "grace_ns": 1_000_000_000, "max_body_bytes": 1_000_000,
        "clock_monotonic_ns": monotonic(), "variables": {}, "endpoints": endpoints,
        "feeds": if case == "plan" { json!([feed]) } else { json!([]) },
        "scenarios": [{"name": "all", "weight": 1, "steps": steps}],
        "workload": {"model": "closed", "stages": [{"duration_ns": seconds * 1_000_000_000, "from": 8, "to": 8}]},
    }))
}

/// Prints its port and answers every request until standard input ends.
fn serve() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let length = BODY.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 09:00:00 GMT\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: keep-alive\r\n\r\n{BODY}"
    );
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}
