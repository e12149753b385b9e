//! What the system does for the engine in calls that only unsafe code can make.
//!
//! This crate has no unsafe code, so whoever starts an engine brings these; without them it runs all the same, only not as
//! well as the system allows.

use std::io;
use std::os::fd::OwnedFd;

use mio::net::TcpStream;

use crate::clock::Ns;

/// Sees a socket before it is bound to a source address, for an option that not every system knows: to have its port
/// chosen when it connects (`IP_BIND_ADDRESS_NO_PORT`), so that ports are counted per pair of addresses.
pub type Unbound = fn(&OwnedFd);

/// Reads from a socket, and tells when the kernel received the last of the bytes: wall clock, ns; 0 where it does not say.
pub type Receive = fn(&TcpStream, &mut [u8]) -> io::Result<(usize, Ns)>;

/// Receive time stamps of the kernel's.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    /// Has the kernel stamp what a new socket receives.
    pub prepare: fn(&TcpStream),
    /// Reads from such a socket.
    pub receive: Receive,
}

/// The calls that an engine makes where there are any.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Sees each socket before it is bound to a source address.
    pub unbound: Unbound,
    /// None where the kernel has no stamps.
    pub stamps: Option<Stamps>,
    /// Called once by each of the engine's threads, first of all: has the system run the thread soon after it wakes.
    pub wake_soon: fn(),
}

impl Default for Host {
    fn default() -> Self {
        Self { unbound: |_| {}, stamps: None, wake_soon: || {} }
    }
}
