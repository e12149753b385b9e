//! Which way new connections go: to the target's addresses, to a proxy's, or to a Unix socket; and from which addresses.
//!
//! What comes in is the plan's choice, what leaves are sockets that have begun to connect. Addresses and sources are
//! taken in turn, so that each pair of them carries its share: a pair has as many connections as the system has
//! ephemeral ports, and no more.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use mio::net::{TcpStream, UnixStream};
use rustix::net::{AddressFamily, SocketType};

use crate::host::Unbound;
use crate::outcome::Kind;

/// Other pairs that are tried where one has no port left.
const OTHER_PAIRS: usize = 4;

/// Where connections begin and end.
#[derive(Clone, Debug)]
pub struct Way {
    ends: Ends,
    /// The next pair of source and address.
    next: usize,
    /// What a proxy is asked before TLS begins.
    tunnel: Option<Arc<[u8]>>,
    unbound: Unbound,
}

#[derive(Clone, Debug)]
enum Ends {
    /// Sources and address of each pair of the same family; the source is None where the system chooses.
    Pairs(Vec<(Option<IpAddr>, SocketAddr)>),
    Socket(PathBuf),
}

impl Way {
    /// To these addresses in turn, from these sources in turn, or from where the system chooses. The error is a sentence.
    pub fn to(addresses: &[SocketAddr], sources: &[IpAddr]) -> Result<Self, String> {
        let fits = |source: &IpAddr, address: &SocketAddr| source.is_ipv4() == address.is_ipv4();
        for address in addresses {
            if !sources.is_empty() && !sources.iter().any(|source| fits(source, address)) {
                return Err(format!("no source address is of the kind that {} needs", address.ip()));
            }
        }
        let mut pairs: Vec<_> =
            if sources.is_empty() { addresses.iter().map(|address| (None, *address)).collect() } else { Vec::new() };
        for source in sources {
            let reached = addresses.iter().filter(|address| fits(source, address));
            pairs.extend(reached.map(|address| (Some(*source), *address)));
        }
        Ok(Self { ends: Ends::Pairs(pairs), next: 0, tunnel: None, unbound: |_| {} })
    }

    /// To a Unix socket.
    pub fn into_socket(path: PathBuf) -> Self {
        Self { ends: Ends::Socket(path), next: 0, tunnel: None, unbound: |_| {} }
    }

    /// No way of its own, for connections whose caller names each address.
    pub fn nowhere() -> Self {
        Self { ends: Ends::Pairs(Vec::new()), next: 0, tunnel: None, unbound: |_| {} }
    }

    /// The same, but before TLS begins, the proxy at the addresses is asked for the way to `authority` (`host:port`).
    pub fn through_proxy(self, authority: &str, authorization: Option<&str>) -> Self {
        let authorization = authorization.map_or_else(String::new, |text| format!("Proxy-Authorization: {text}\r\n"));
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{authorization}\r\n");
        Self { tunnel: Some(request.into_bytes().into()), ..self }
    }

    /// The same for one of several who share the way: `first` is the pair it takes first, `unbound` sees its sockets.
    /// The error is a sentence: about a source address that is not this machine's.
    pub fn begin_with(mut self, first: usize, unbound: Unbound) -> Result<Self, String> {
        (self.next, self.unbound) = (first, unbound);
        if let Ends::Pairs(pairs) = &self.ends {
            for source in pairs.iter().filter_map(|(source, _)| *source) {
                bound(source, unbound).map_err(|error| format!("connections cannot begin from {source}: {error}"))?;
            }
        }
        Ok(self)
    }

    /// What is to be said before TLS begins.
    pub fn tunnel(&self) -> Option<Arc<[u8]>> {
        self.tunnel.clone()
    }

    /// A socket that has begun to connect. None where the listener's queue is full: try again a little later.
    pub fn open(&mut self) -> Result<Option<TcpStream>, Kind> {
        let pairs = match &self.ends {
            Ends::Socket(path) => {
                return match UnixStream::connect(path) {
                    // From here on it is a descriptor like any other.
                    Ok(stream) => Ok(Some(TcpStream::from(OwnedFd::from(stream)))),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                    Err(error) => Err(connect_kind(&error)),
                };
            }
            Ends::Pairs(pairs) => pairs,
        };
        let mut outcome = Err(Kind::EngineFault);
        for _ in 0..pairs.len().min(OTHER_PAIRS) {
            let (source, address) = pairs[self.next % pairs.len()];
            self.next = self.next.wrapping_add(1);
            let stream = match source {
                None => TcpStream::connect(address),
                Some(source) => connect_from(source, address, self.unbound),
            };
            outcome = stream.map(Some).map_err(|error| connect_kind(&error));
            if !matches!(outcome, Err(Kind::ClientPorts)) {
                break;
            }
        }
        outcome
    }
}

fn connect_from(source: IpAddr, address: SocketAddr, unbound: Unbound) -> io::Result<TcpStream> {
    let socket = bound(source, unbound)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

/// A socket that connects from an address.
fn bound(source: IpAddr, unbound: Unbound) -> io::Result<OwnedFd> {
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family)?;
    unbound(&socket);
    rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    use rustix::net::SocketFlags;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

#[cfg(not(target_os = "linux"))]
fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// The kind of a connection that could not be made.
pub fn connect_kind(error: &io::Error) -> Kind {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match error.kind() {
        ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse => Kind::ClientPorts,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Kind::ConnectReset,
        ErrorKind::TimedOut => Kind::ConnectTimeout,
        ErrorKind::OutOfMemory => Kind::ClientFds,
        _ if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => Kind::ClientFds,
        _ => Kind::ConnectRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Every source meets every address of its family, and no other.
    #[test]
    fn pairs_are_of_one_family() {
        let addresses = ["127.0.0.1:80", "127.0.0.9:80", "[::1]:80"].map(|text| text.parse().unwrap());
        let way = Way::to(&addresses, &ips(&["127.0.0.2", "127.0.0.3", "::1"])).unwrap();
        let Ends::Pairs(pairs) = way.ends else { panic!() };
        assert_eq!(pairs.len(), 5);
        assert!(pairs.iter().all(|(source, at)| source.unwrap().is_ipv4() == at.is_ipv4()));
        let error = Way::to(&addresses, &ips(&["127.0.0.2"])).unwrap_err();
        assert!(error.contains("::1"), "{error}");
    }

    /// An address of another machine is found before anything is sent, not taken for a lack of ports.
    #[test]
    fn sources_are_this_machines_own() {
        let way = Way::to(&["127.0.0.1:80".parse().unwrap()], &ips(&["127.0.0.2", "192.0.2.77"])).unwrap();
        let error = way.begin_with(0, |_| {}).unwrap_err();
        assert!(error.contains("192.0.2.77"), "{error}");
    }
}
