//! Listening sockets: one per worker on the same address, so that the kernel spreads connections
//! and no worker waits for another's lock.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted, per socket.
const BACKLOG: i32 = 1024;

/// The sockets of one address.
pub(crate) struct Sockets {
    /// As bound: with the port that was picked for 0.
    pub(crate) address: SocketAddr,
    /// One per worker.
    pub(crate) each: Vec<TcpListener>,
}

/// Binds an address `count` times.
///
/// # Errors
/// Naming the address and what to do.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Sockets> {
    let failed = |error: io::Error| explain(address, &error);
    if address.port() != 0 {
        // `SO_REUSEPORT` would let us join another process of the same user on its port, and each
        // would get half of the connections. A first bind without it finds that out.
        drop(socket(address, Sharing::Alone).map_err(failed)?);
    }
    let mut bound = address;
    let mut each = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(bound, Sharing::WithWorkers).map_err(failed)?;
        let listener = TcpListener::from(socket);
        bound = listener.local_addr().map_err(failed)?;
        each.push(listener);
    }
    Ok(Sockets { address: bound, each })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    WithWorkers,
}

fn socket(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if sharing == Sharing::WithWorkers {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` is IPv6 alone: whoever wants both lists both, and an address means what it says.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn explain(address: SocketAddr, error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "another process has the port: stop it, or choose another port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 want a privilege: choose a higher port, or grant \
             `CAP_NET_BIND_SERVICE`"
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address: choose one that it has",
        _ => "see the reason given by the system",
    };
    io::Error::new(error.kind(), format!("cannot listen on `{address}`: {error}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_port_that_was_picked() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_ne!(sockets.address.port(), 0);
        for listener in &sockets.each {
            assert_eq!(listener.local_addr().unwrap(), sockets.address);
        }
    }

    #[test]
    fn a_taken_port_is_refused_although_it_could_be_shared() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let error = bind(first.address, 1).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(
            text.contains(&first.address.to_string()) && text.contains("another port"),
            "{text}"
        );
    }

    #[test]
    fn a_foreign_address_is_refused_with_its_remedy() {
        let error = bind("192.0.2.1:0".parse().unwrap(), 1).err().unwrap();
        assert!(error.to_string().contains("choose one that it has"), "{error}");
    }
}
