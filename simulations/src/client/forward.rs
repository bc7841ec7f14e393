//! A forwarder, as a sidecar's or a node's cache is one: what it is asked it asks another server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long the server behind is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Forwards until killed.
pub(super) fn forward(own: SocketAddr, server: SocketAddr) -> io::Result<()> {
    let udp = Arc::new(UdpSocket::bind(own)?);
    let tcp = TcpListener::bind(own)?;
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            thread::spawn(move || over_tcp(stream, server));
        }
    });
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, from)) = udp.recv_from(&mut buffer) else { continue };
        let query = buffer.get(..length).unwrap_or_default().to_vec();
        let udp = Arc::clone(&udp);
        thread::spawn(move || {
            if let Ok(reply) = over_udp(&query, server) {
                let _lost = udp.send_to(&reply, from);
            }
        });
    }
}

fn over_udp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(query)?;
    let mut reply = vec![0; 4096];
    let length = socket.recv(&mut reply)?;
    reply.truncate(length);
    Ok(reply)
}

fn over_tcp(client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&server, PATIENCE)?;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || pass(from_client, to_server));
    pass(server, client);
    Ok(())
}

/// Whoever ends first ends the other's side, too.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ended = io::copy(&mut from, &mut to);
    let _already = to.shutdown(Shutdown::Write);
}
