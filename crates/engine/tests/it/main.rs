//! The engine against servers that do what a test tells them to, over real sockets on loopback.

mod answers;
mod bodies;
mod books;
mod control;
mod http2;
mod reading;
mod scenarios;
mod server;
mod stamps;
mod talks;
mod tls;
mod ways;
mod workloads;
