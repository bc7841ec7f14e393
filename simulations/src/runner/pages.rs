//! The status pages of a simulated cluster, for a browser outside of it.
//!
//! The cluster's network namespaces are nobody's to reach. So whoever started it listens on loopback, one port per process,
//! and hands each request to the inside over the pipes that are there anyway: nothing is left on the machine when either end
//! is killed. Requests are short and without body: the pages only read.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ChildStdin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::child::say;
use crate::lab::Netns;
use crate::result::{EntryKind, TimelineEntry, Told};
use crate::scenario::Scenario;

/// The longest request that is handed on.
const REQUEST: usize = 8 << 10;
/// The longest reply.
const REPLY: u64 = 8 << 20;
/// Requests under way at once; more wait at the door.
const AT_ONCE: usize = 8;
/// How long either end waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request, as a line on the child's standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    id: u64,
    /// Whose page: `node1`, `control`.
    home: String,
    /// The request, head alone.
    request: String,
}

/// The outer end.
#[derive(Debug)]
pub(super) struct Doors {
    /// Whose page is where.
    open: Vec<(String, SocketAddr)>,
    waiting: Arc<Waiting>,
}

type Waiting = Mutex<BTreeMap<u64, mpsc::SyncSender<String>>>;

impl Doors {
    /// Opens a port on loopback for each process that the scenario starts.
    pub(super) fn open(scenario: &Scenario, stdin: ChildStdin) -> io::Result<Self> {
        let waiting: Arc<Waiting> = Arc::default();
        let (stdin, next) = (Arc::new(Mutex::new(stdin)), Arc::new(AtomicU64::new(0)));
        let mut open = Vec::new();
        let homes = ["control".to_owned()].into_iter().chain(scenario.topology.names());
        for home in homes {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            open.push((home.clone(), listener.local_addr()?));
            for _ in 0..AT_ONCE {
                let (listener, home) = (listener.try_clone()?, home.clone());
                let (stdin, next, waiting) = (stdin.clone(), next.clone(), waiting.clone());
                thread::Builder::new().name("page".to_owned()).spawn(move || {
                    for stream in listener.incoming().flatten() {
                        // Who went away has no use for a reason.
                        let _ = hand_on(stream, &home, &stdin, &next, &waiting);
                    }
                })?;
            }
        }
        Ok(Self { open, waiting })
    }

    /// For people: where each page is.
    pub(super) fn told(&self) -> Vec<Told> {
        let entry = |(home, address): &(String, SocketAddr)| {
            let whose = if home == "control" { "the coordinator" } else { home };
            let text = format!("status page of {whose}: http://{address}/");
            Told::Entry(TimelineEntry { at_s: 0.0, kind: EntryKind::Progress, text, details: Vec::new() })
        };
        self.open.iter().map(entry).collect()
    }

    /// What the inside replied.
    pub(super) fn reply(&self, id: u64, text: String) {
        let asker = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(asker) = asker {
            let _ = asker.try_send(text);
        }
    }
}

fn hand_on(
    mut stream: TcpStream,
    home: &str,
    stdin: &Mutex<ChildStdin>,
    next: &AtomicU64,
    waiting: &Waiting,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = head(&mut stream)?;
    let id = next.fetch_add(1, Ordering::Relaxed);
    let (sender, receiver) = mpsc::sync_channel(1);
    waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
    let mut line = serde_json::to_vec(&Ask { id, home: home.to_owned(), request })?;
    line.push(b'\n');
    let asked = stdin.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
    let reply = asked.map(|()| receiver.recv_timeout(PATIENCE));
    waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    if let Ok(reply) = reply? {
        stream.write_all(reply.as_bytes())?;
    }
    stream.shutdown(Shutdown::Both)
}

/// A request up to the empty line, told to end with its reply.
fn head(stream: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        let n = stream.read(&mut buffer)?;
        let some = buffer.get(..n).filter(|some| !some.is_empty() && bytes.len() < REQUEST);
        bytes.extend_from_slice(some.ok_or(io::ErrorKind::InvalidData)?);
    }
    let text = String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
    let lines =
        text.split("\r\n").filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("connection:"));
    Ok(lines.chain(["Connection: close", "", ""]).collect::<Vec<_>>().join("\r\n"))
}

/// The inner end: where each page is.
pub(super) type Places = BTreeMap<String, (Netns, u16)>;

/// Answers what comes on standard input until it ends.
pub(super) fn answer(places: Places) -> io::Result<()> {
    let places = Arc::new(places);
    thread::Builder::new().name("pages".to_owned()).spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let Ok(ask) = serde_json::from_str::<Ask>(&line) else { continue };
            let places = Arc::clone(&places);
            // The outer end asks for no more than a few at once.
            let _ = thread::Builder::new().name("page".to_owned()).spawn(move || {
                if let Some(text) = places.get(&ask.home).and_then(|place| exchange(place, &ask.request)) {
                    say(&Told::Page { id: ask.id, text });
                }
            });
        }
    })?;
    Ok(())
}

fn exchange((netns, port): &(Netns, u16), request: &str) -> Option<String> {
    let connect = || TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, *port).into(), PATIENCE);
    let mut stream = netns.enter(connect).ok()?.ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.take(REPLY).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_with_its_reply() {
        let mut sent: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(head(&mut sent).unwrap(), "GET / HTTP/1.1\r\nHost: 127.0.0.1:8\r\nConnection: close\r\n\r\n");
        let mut cut: &[u8] = b"GET / HTTP/1.1\r\n";
        assert!(head(&mut cut).is_err());
        let long = vec![b'x'; 4 * REQUEST];
        assert!(head(&mut &long[..]).is_err());
    }
}
