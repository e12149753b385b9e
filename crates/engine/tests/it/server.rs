//! A server that does what it is told, request by request, and keeps a ledger.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use surgeline_engine::http1::Chunks;

/// What to do next on a connection.
pub enum Act {
    Send(Vec<u8>),
    Pause(u64),
    /// Close with RST.
    Reset,
    /// Close with FIN.
    Close,
    /// Say nothing more until the client goes.
    Stall,
}

/// A request as it came in.
pub struct Incoming {
    pub method: String,
    pub path: String,
    pub head: String,
    pub body: Vec<u8>,
    /// Its number on this connection, from 0.
    pub nth: usize,
}

/// What the server saw.
#[derive(Default)]
pub struct Ledger {
    pub connections: AtomicUsize,
    pub requests: AtomicUsize,
    pub busy: AtomicUsize,
    pub most_busy: AtomicUsize,
    pub by_path: Mutex<BTreeMap<String, usize>>,
    pub heads: Mutex<Vec<String>>,
}

impl Ledger {
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn path(&self, path: &str) -> usize {
        self.by_path.lock().unwrap().get(path).copied().unwrap_or(0)
    }
}

/// Starts a server whose answers `script` gives. It lives as long as the test's process.
pub fn serve(script: impl Fn(&Incoming) -> Vec<Act> + Send + Sync + 'static) -> (u16, Arc<Ledger>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ledger = Arc::new(Ledger::default());
    let (script, seen) = (Arc::new(script), ledger.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            seen.connections.fetch_add(1, Ordering::SeqCst);
            let (script, seen) = (script.clone(), seen.clone());
            thread::spawn(move || talk(stream, &*script, &seen));
        }
    });
    (port, ledger)
}

fn talk(mut stream: TcpStream, script: &dyn Fn(&Incoming) -> Vec<Act>, ledger: &Ledger) {
    let _ = stream.set_nodelay(true);
    let mut unread = Vec::new();
    for nth in 0.. {
        let Some(incoming) = read_request(&mut stream, &mut unread, nth) else { return };
        ledger.requests.fetch_add(1, Ordering::SeqCst);
        *ledger.by_path.lock().unwrap().entry(incoming.path.clone()).or_default() += 1;
        ledger.heads.lock().unwrap().push(incoming.head.clone());
        let busy = ledger.busy.fetch_add(1, Ordering::SeqCst) + 1;
        ledger.most_busy.fetch_max(busy, Ordering::SeqCst);
        let on = act(&mut stream, script(&incoming), ledger);
        if !on {
            return;
        }
    }
}

/// Whether the connection goes on. The request counts as busy until its last bytes are about to leave.
fn act(stream: &mut TcpStream, acts: Vec<Act>, ledger: &Ledger) -> bool {
    let last = acts.len().saturating_sub(1);
    let mut busy = true;
    let mut on = true;
    for (number, act) in acts.into_iter().enumerate() {
        if number == last {
            ledger.busy.fetch_sub(1, Ordering::SeqCst);
            busy = false;
        }
        on = match act {
            Act::Send(bytes) => stream.write_all(&bytes).is_ok(),
            Act::Pause(ms) => {
                thread::sleep(Duration::from_millis(ms));
                true
            }
            Act::Reset => {
                let at_once = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(&*stream, at_once).unwrap();
                false
            }
            Act::Close => {
                let _ = stream.shutdown(Shutdown::Write);
                false
            }
            Act::Stall => {
                let _ = stream.read_to_end(&mut Vec::new());
                false
            }
        };
        if !on {
            break;
        }
    }
    if busy {
        ledger.busy.fetch_sub(1, Ordering::SeqCst);
    }
    on
}

fn read_request(stream: &mut impl Read, unread: &mut Vec<u8>, nth: usize) -> Option<Incoming> {
    let mut buffer = [0; 16 * 1024];
    let end = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut buffer) {
            Ok(size) if size > 0 => unread.extend_from_slice(&buffer[..size]),
            _ => return None,
        }
    };
    let head = String::from_utf8_lossy(&unread[..end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse().unwrap()))
        .unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let mut body = Vec::new();
    let mut chunks = Chunks::default();
    let mut read = end;
    let end = loop {
        if chunked {
            let found = chunks.read(&unread[read..], |part| body.extend_from_slice(part)).unwrap();
            if let Some(size) = found {
                break read + size;
            }
            read = unread.len();
        } else if unread.len() >= end + length {
            body.extend_from_slice(&unread[end..end + length]);
            break end + length;
        }
        match stream.read(&mut buffer) {
            Ok(size) if size > 0 => unread.extend_from_slice(&buffer[..size]),
            _ => return None,
        }
    };
    unread.drain(..end);
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Incoming { method, path, head, body, nth })
}

/// A whole 200 answer.
pub fn ok(body: &str) -> Act {
    answer(200, "", body)
}

/// A whole answer with more header lines, each ending in CRLF.
pub fn answer(status: u16, headers: &str, body: &str) -> Act {
    text(&format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()))
}

/// Bytes as they are.
pub fn text(text: &str) -> Act {
    Act::Send(text.as_bytes().to_vec())
}
