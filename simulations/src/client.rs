//! The scenarios' helper, started as `__client …`: a workload that asks too much, holds a port, or forwards.
//!
//! It shares no code with the prober. Nothing that the network does to it ends it: it runs until it is killed or has sent
//! what it was told to.

mod ask;
mod fetch;
mod forward;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser};

/// What it is to be.
#[derive(Debug, Parser)]
#[command(name = "client", disable_help_subcommand = true)]
enum Client {
    /// Asks at a rate.
    Query(Query),
    /// Holds a port by UDP and TCP and never reads from it.
    Hold(Bound),
    /// Keeps TCP connections open and says nothing on them.
    Connect(Connect),
    /// Hands queries on to another server, by UDP and TCP.
    Forward(Forward),
    /// Asks for a page over HTTP once, and fails unless it answers with a status.
    Fetch(Fetch),
    /// Holds the lock that iptables-legacy takes.
    Lock,
}

/// How to ask.
#[derive(Debug, Args)]
struct Query {
    /// Whom, port 53 unless `--to-port` says otherwise.
    #[arg(long)]
    server: IpAddr,
    /// The server's port.
    #[arg(long, default_value_t = 53)]
    to_port: u16,
    /// Queries in a second.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// How many queries; 0 is without end.
    #[arg(long, default_value_t = 0)]
    count: u64,
    /// Names, asked in turn; `%` becomes a number that no query had before.
    #[arg(long, default_values_t = ["kubernetes.default.svc.cluster.local".to_owned()])]
    name: Vec<String>,
    /// Every query from this port.
    #[arg(long)]
    port: Option<u16>,
    /// Every query from a port of its own, left open for a second.
    #[arg(long, conflicts_with = "port")]
    fresh: bool,
    /// By TCP, each on a connection of its own.
    #[arg(long)]
    tcp: bool,
    /// A and AAAA at once from one port, as musl and glibc do.
    #[arg(long)]
    pairs: bool,
    /// A search list, as in resolv.conf: a name is asked with each of these until one exists.
    #[arg(long, value_delimiter = ',')]
    search: Vec<String>,
    /// Names with at least so many dots are asked as they are first.
    #[arg(long, default_value_t = 5)]
    ndots: usize,
    /// How long an answer is waited for where one is needed (TCP, search list), in milliseconds.
    #[arg(long, default_value_t = 1000)]
    timeout: u64,
}

/// A port of this namespace.
#[derive(Debug, Args)]
struct Bound {
    /// The address.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    bind: IpAddr,
    /// The port.
    #[arg(long)]
    port: u16,
}

/// Connections to hold.
#[derive(Debug, Args)]
struct Connect {
    /// To whom.
    #[arg(long)]
    server: IpAddr,
    /// The server's port.
    #[arg(long, default_value_t = 53)]
    to_port: u16,
    /// How many at once; one that the server closes is made again.
    #[arg(long, default_value_t = 1)]
    count: usize,
}

/// A page, and what it must answer.
#[derive(Debug, Args)]
struct Fetch {
    /// Whom.
    #[arg(long)]
    server: IpAddr,
    /// The server's port.
    #[arg(long, default_value_t = 9890)]
    to_port: u16,
    /// Which page.
    #[arg(long)]
    path: String,
    /// The bearer token that is shown.
    #[arg(long)]
    token: Option<String>,
    /// The status that it must answer with.
    #[arg(long, default_value_t = 200)]
    status: u16,
}

/// From where to where.
#[derive(Debug, Args)]
struct Forward {
    #[command(flatten)]
    bound: Bound,
    /// The server behind.
    #[arg(long)]
    server: IpAddr,
    /// Its port.
    #[arg(long, default_value_t = 53)]
    to_port: u16,
}

/// `__client …`.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let all = std::iter::once(OsString::from("client")).chain(args.iter().cloned());
    let client = match Client::try_parse_from(all) {
        Ok(client) => client,
        Err(error) => {
            let _nobody_listens = writeln!(io::stderr(), "{error}");
            return ExitCode::from(2);
        }
    };
    let done = match client {
        Client::Query(query) => ask::ask(&query),
        Client::Hold(bound) => hold(&bound),
        Client::Fetch(page) => fetch::fetch(&page),
        Client::Lock => lock(),
        Client::Connect(connect) => ask::connect(SocketAddr::new(connect.server, connect.to_port), connect.count),
        Client::Forward(to) => {
            forward::forward(SocketAddr::new(to.bound.bind, to.bound.port), SocketAddr::new(to.server, to.to_port))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _nobody_listens = writeln!(io::stderr(), "client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hold(bound: &Bound) -> io::Result<()> {
    let address = SocketAddr::new(bound.bind, bound.port);
    let _held = (UdpSocket::bind(address)?, TcpListener::bind(address)?);
    loop {
        nix::unistd::pause();
    }
}

/// `/run` is the simulation's own.
fn lock() -> io::Result<()> {
    let file = std::fs::File::options().create(true).truncate(false).write(true).open("/run/xtables.lock")?;
    let _held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    loop {
        nix::unistd::pause();
    }
}

/// The clock of what runs without a runtime.
#[expect(clippy::disallowed_methods, reason = "no mind and no runtime is here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A pause between two things of a kind, so that so many of them happen in a second.
fn pace(rate: f64) -> Duration {
    Duration::from_secs_f64(1.0 / rate.clamp(0.01, 100_000.0))
}
