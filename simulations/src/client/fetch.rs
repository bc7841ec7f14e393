//! One page over HTTP, as a visitor from elsewhere asks for it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Fetch;

/// How long the other end is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// No more is looked at.
const REPLY: u64 = 4 << 10;

/// Fails unless the page answers with the status that is wanted.
pub(super) fn fetch(page: &Fetch) -> io::Result<()> {
    let address = SocketAddr::new(page.server, page.to_port);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let shown = page.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET {} HTTP/1.1\r\nHost: {address}\r\n{shown}Connection: close\r\n\r\n", page.path);
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    stream.take(REPLY).read_to_end(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply);
    let status = reply.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    if status == Some(page.status) {
        return Ok(());
    }
    let (first, last) = (reply.lines().next().unwrap_or_default(), reply.lines().next_back().unwrap_or_default());
    Err(io::Error::other(format!("{} answers `{first}`, and {} is wanted: {last}", page.path, page.status)))
}
