//! Sends HTTP requests when they are due and writes down what came back.
//!
//! The way of a plan through the modules:
//!
//! 1. `plan` reads the plan and compiles it, with `template` and `request` for what is sent and `answer` for what is made
//!    of what comes back. Nothing is interpreted later.
//! 2. `schedule` says when requests are due. It is arithmetic.
//! 3. `worker` is one thread: it lets users begin, sends their requests over `conn`, which knows `http1` and `tls` and
//!    which `way` to go, judges the answers, keeps cookies in a `jar`, and holds the conversations of `events` and `websocket`. Bodies are `kept` as
//!    far as somebody looks into them, `decode` brings them back where they are packed, `upload` holds those made of files.
//!    Workers share nothing but the room for bodies.
//! 4. `record` turns what happened into rows, windows (`histogram`), counts and health, `exchange` keeps evidence without
//!    what is `secret`, and
//!    `table` makes bytes of them that `sink` hands to whoever reads.
//! 5. `run` holds the threads of one run and passes on what its operator wants; `host` is what its caller has the system
//!    do for them.
//!
//! `client` stands beside that way: exchanges over `conn` that somebody else's event loop asks for, one at a time.
//!
//! Times are integer nanoseconds since the run's anchor on the monotonic clock.

#![forbid(unsafe_code)]

pub mod answer;
pub mod client;
pub mod clock;
pub mod conn;
pub mod decode;
pub mod events;
pub mod exchange;
pub mod feed;
pub mod h2;
pub mod histogram;
pub mod host;
pub mod hpack;
pub mod http1;
pub mod jar;
pub mod kept;
pub mod outcome;
pub mod pause;
pub mod plan;
pub mod record;
pub mod request;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod sink;
pub mod table;
pub mod template;
pub mod tls;
pub mod upload;
pub mod way;
pub mod websocket;
pub mod worker;
