//! The sockets: opened, closed and left unread at run time.

use std::io;
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;

use super::command::Command;
use super::handler::{Handler, Shared, lock};

/// Idle TCP connections are closed after this.
const IDLE: Duration = Duration::from_secs(10);

/// Answers that may wait on one TCP connection.
const WAITING: usize = 32;

pub(super) struct Listeners {
    port: u16,
    shared: Arc<Shared>,
    udp: Option<Server<Handler>>,
    tcp: Option<Server<Handler>>,
}

impl Listeners {
    pub(super) fn new(port: u16, shared: Arc<Shared>) -> Self {
        Self { port, shared, udp: None, tcp: None }
    }

    /// Opens the UDP socket, or reads it again if it is open and unread.
    pub(super) fn open_udp(&mut self) -> io::Result<()> {
        if self.udp.is_some() {
            return Ok(());
        }
        let open = lock(&self.shared.udp).clone();
        let socket = match open {
            Some(socket) => socket,
            None => {
                let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, self.port))?;
                socket.set_nonblocking(true)?;
                Arc::new(socket)
            }
        };
        let mut server = Server::new(Handler(Arc::clone(&self.shared)));
        server.register_socket(tokio::net::UdpSocket::from_std(socket.try_clone()?)?);
        *lock(&self.shared.udp) = Some(socket);
        self.udp = Some(server);
        Ok(())
    }

    pub(super) fn open_tcp(&mut self) -> io::Result<()> {
        if self.tcp.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, self.port))?;
        // As CoreDNS does: Go asks for net.core.somaxconn (4096), std for 128.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXALLOWABLE)?;
        listener.set_nonblocking(true)?;
        let mut server = Server::new(Handler(Arc::clone(&self.shared)));
        server.register_listener(tokio::net::TcpListener::from_std(listener)?, IDLE, WAITING);
        self.tcp = Some(server);
        Ok(())
    }

    async fn close(server: &mut Option<Server<Handler>>) -> io::Result<()> {
        match server.take() {
            Some(mut server) => server.shutdown_gracefully().await.map_err(io::Error::other),
            None => Ok(()),
        }
    }

    pub(super) async fn obey(&mut self, command: &Command) -> io::Result<()> {
        self.shared.obey(command);
        match command {
            Command::Ok => {
                self.open_udp()?;
                self.open_tcp()
            }
            Command::UdpOpen | Command::UdpDrop => self.open_udp(),
            // What was read before is still answered or not; from now on nobody reads. The second descriptor keeps the socket.
            Command::UdpStuck => {
                self.open_udp()?;
                Self::close(&mut self.udp).await
            }
            Command::UdpClose => {
                Self::close(&mut self.udp).await?;
                *lock(&self.shared.udp) = None;
                Ok(())
            }
            Command::TcpOpen => self.open_tcp(),
            Command::TcpClose => Self::close(&mut self.tcp).await,
            Command::Delay(_)
            | Command::Code(_)
            | Command::Wrong(_)
            | Command::Truncate
            | Command::Garbage
            | Command::Health(_)
            | Command::Ready(_)
            | Command::Record(..)
            | Command::Instead(..)
            | Command::Wildcard(_)
            | Command::Zone(_)
            | Command::Aaaa(_)
            | Command::BufSize(_)
            | Command::Large(..)
            | Command::Forward(_)
            | Command::Forget(_)
            | Command::NoReverse
            | Command::Process(_)
            | Command::Exit(_) => Ok(()),
        }
    }
}
