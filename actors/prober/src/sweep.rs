//! Sends the probes of a job and waits for all of them at once.
//!
//! Sockets come in batches, a batch with one entry per namespace; everything after that happens on the runtime's
//! workers, with no thread per probe.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join;
use futures::stream::{self, FuturesUnordered};
use nameward_kernel::exchange::udp::Line;
use nameward_kernel::exchange::{Ask, Query, Talk, tcp, udp};
use nameward_kernel::sockets::{Granted, NamedNetns, SocketSource, Wish};
use nameward_messages::probe::{
    Expect, NotAsked, Observation, Outcome, PathKey, Purpose, QueryType, Question, QuestionKind,
};
use nameward_messages::targets::{Family, Transport};
use nameward_supervision::clock;

use crate::held::Held;
use crate::mind::{Job, Shot};

/// Sockets that are opened together at most.
const BATCH: usize = 128;
/// The payload size of an EDNS probe, octets.
const EDNS: u16 = 4096;

/// What probing needs.
#[derive(Clone)]
pub struct Tools {
    /// Where sockets come from.
    pub sockets: Arc<dyn SocketSource>,
    /// The held ports.
    pub held: Held,
}

/// Does a job. One observation per shot, in no particular order.
pub async fn shoot(tools: &Tools, job: Job) -> Vec<Observation> {
    let at_once = (job.concurrency / BATCH).max(1);
    let size = BATCH.min(job.concurrency.max(1));
    let mut rest = job.shots;
    let mut batches = Vec::with_capacity(rest.len() / size + 1);
    while rest.len() > size {
        let later = rest.split_off(size);
        batches.push(std::mem::replace(&mut rest, later));
    }
    batches.push(rest);
    let mut all = Vec::new();
    let mut done = stream::iter(batches).map(|batch| one_batch(tools, batch)).buffer_unordered(at_once);
    while let Some(observations) = done.next().await {
        all.extend(observations);
    }
    all
}

async fn one_batch(tools: &Tools, shots: Vec<Shot>) -> Vec<Observation> {
    let granted = tools.sockets.open(wishes(&shots)).await;
    let mut results: Vec<Observation> = Vec::with_capacity(shots.len());
    let under_way = FuturesUnordered::new();
    let mut on_held: BTreeMap<PathKey, Vec<(Shot, OwnedFd, Asks)>> = BTreeMap::new();
    let mut encoded = Encoded::default();
    let mut shots = shots.into_iter();
    for (count, granted) in counts(shots.as_slice()).into_iter().zip(granted) {
        let mut sockets = sockets(granted, count).into_iter();
        for shot in shots.by_ref().take(count) {
            let socket = sockets.next().unwrap_or(Err(NotAsked::LocalError));
            match (socket, encoded.asks(&shot)) {
                (Ok(socket), Some(asks)) if is_held(&shot) => {
                    on_held.entry(shot.path.clone()).or_default().push((shot, socket, asks));
                }
                (Ok(socket), Some(asks)) => under_way.push(one(shot, socket, asks)),
                (Err(why), _) => results.push(observe(shot, not_asked(why))),
                (_, None) => results.push(observe(shot, not_asked(NotAsked::LocalError))),
            }
        }
    }
    let held: FuturesUnordered<_> = on_held.into_values().map(|group| held_port(tools, group)).collect();
    let (on_fresh, on_held) = join(under_way.collect::<Vec<_>>(), held.collect::<Vec<_>>()).await;
    results.extend(on_fresh);
    results.extend(on_held.into_iter().flatten());
    results
}

/// Whether a shot is to leave from the port that is held for its path.
fn is_held(shot: &Shot) -> bool {
    shot.path.transport == Transport::Udp
        && (shot.purpose == Purpose::HeldPort || shot.path.question == QuestionKind::Held)
}

/// How many shots in a row have the same vantage.
fn counts(shots: &[Shot]) -> Vec<usize> {
    shots.chunk_by(|a, b| a.path.vantage == b.path.vantage).map(<[Shot]>::len).collect()
}

fn wishes(shots: &[Shot]) -> Vec<Wish> {
    let wish = |group: &[Shot]| Wish {
        place: group
            .first()
            .and_then(|shot| shot.place.as_ref())
            .map(|place| NamedNetns { path: place.path.to_path_buf(), cookie: place.cookie }),
        sockets: group.iter().map(|shot| (shot.path.transport, Family::of(shot.path.target.ip))).collect(),
    };
    shots.chunk_by(|a, b| a.path.vantage == b.path.vantage).map(wish).collect()
}

fn sockets(granted: Granted, count: usize) -> Vec<Result<OwnedFd, NotAsked>> {
    granted.unwrap_or_else(|why| std::iter::repeat_with(|| Err(why)).take(count).collect())
}

/// One probe.
async fn one(shot: Shot, socket: OwnedFd, asks: Asks) -> Observation {
    let talk = match (shot.path.transport, &shot.purpose) {
        (Transport::Tcp, _) => tcp::exchange(socket, &asks.first, shot.patience).await,
        (Transport::Udp, Purpose::Both) => both(socket, asks, shot.patience).await,
        (Transport::Udp, _) => udp::exchange(socket, &asks.first, shot.patience).await,
    };
    observe(shot, talk)
}

/// Asks over the port that is held for the path of these shots, all of them from there: a confirmation from fresh ports
/// would say nothing about it. The first time, a port becomes held.
async fn held_port(tools: &Tools, group: Vec<(Shot, OwnedFd, Asks)>) -> Vec<Observation> {
    let mut fresh = None;
    let (mut shots, mut asks) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
    for (shot, socket, ask) in group {
        fresh = fresh.or(Some(socket));
        shots.push(shot);
        asks.push(ask.first);
    }
    let none = |shots: Vec<Shot>, why| shots.into_iter().map(|shot| observe(shot, not_asked(why))).collect();
    let (Some(first), Some(fresh)) = (shots.first(), fresh) else { return Vec::new() };
    // Another job asks from it at this moment: nothing is learned.
    let Some((loan, line)) = tools.held.lend(&first.path) else { return none(shots, NotAsked::LocalError) };
    let line = match line {
        Some(line) => line,
        None => match Line::new(fresh) {
            Ok(line) => line,
            Err(_) => return none(shots, NotAsked::NoResources),
        },
    };
    let patience = shots.iter().map(|shot| shot.patience).max().unwrap_or_default();
    let talks = line.exchange(&asks, patience).await;
    loan.give_back(line, clock::now().mono);
    shots.into_iter().zip(talks).map(|(shot, talk)| observe(shot, talk)).collect()
}

/// Asks for both types over one port, as resolvers do. The worse result counts: what fails is the pair.
async fn both(socket: OwnedFd, asks: Asks, patience: Duration) -> Talk {
    let Ok(line) = Line::new(socket) else { return not_asked(NotAsked::NoResources) };
    let pair: Vec<Ask> = std::iter::once(asks.first).chain(asks.second).collect();
    let talks = line.exchange(&pair, patience).await;
    let latency = talks.iter().map(|talk| talk.latency).max().unwrap_or_default();
    let worst = talks.into_iter().min_by_key(|talk| talk.outcome.good() == Some(true));
    worst.map_or_else(|| not_asked(NotAsked::LocalError), |talk| Talk { latency, ..talk })
}

fn observe(shot: Shot, talk: Talk) -> Observation {
    Observation {
        at: clock::now().mono,
        path: shot.path,
        port: shot.port,
        outcome: talk.outcome,
        latency: talk.latency,
        connect: talk.connect,
        purpose: shot.purpose,
    }
}

fn not_asked(why: NotAsked) -> Talk {
    Talk { outcome: Outcome::NotAsked { why }, latency: Duration::ZERO, connect: None }
}

/// The questions of one shot.
struct Asks {
    first: Ask,
    second: Option<Ask>,
}

/// What was encoded already: a batch has few different questions.
#[derive(Default)]
struct Encoded {
    known: Vec<Known>,
}

struct Known {
    question: Arc<Question>,
    edns: Option<u16>,
    query: Arc<Query>,
    expect: Arc<Expect>,
}

impl Encoded {
    /// `None`: the name cannot be asked for.
    fn asks(&mut self, shot: &Shot) -> Option<Asks> {
        let to = SocketAddr::new(shot.path.target.ip, shot.port);
        let large = shot.purpose == Purpose::Edns || shot.path.question == QuestionKind::Large;
        let edns = large.then_some(EDNS);
        let first = self.ask(&shot.question, edns, to)?;
        let second = match shot.purpose {
            Purpose::Both => self.ask(&Arc::new(companion(&shot.question)), edns, to),
            _ => None,
        };
        Some(Asks { first, second })
    }

    fn ask(&mut self, question: &Arc<Question>, edns: Option<u16>, to: SocketAddr) -> Option<Ask> {
        let known = self.known.iter().position(|one| one.is(question, edns));
        let at = match known {
            Some(at) => at,
            None => {
                self.known.push(Known::new(question, edns)?);
                self.known.len() - 1
            }
        };
        let known = self.known.get(at)?;
        Some(Ask { to, query: Arc::clone(&known.query), expect: Arc::clone(&known.expect), id: fastrand::u16(..) })
    }
}

impl Known {
    fn new(question: &Arc<Question>, edns: Option<u16>) -> Option<Self> {
        match Query::new(question, edns) {
            Ok(query) => Some(Self {
                question: Arc::clone(question),
                edns,
                query: Arc::new(query),
                expect: Arc::new(question.expect.clone()),
            }),
            Err(e) => {
                tracing::warn!(error = %e, "not asked");
                None
            }
        }
    }

    fn is(&self, question: &Arc<Question>, edns: Option<u16>) -> bool {
        self.edns == edns && (Arc::ptr_eq(&self.question, question) || self.question == *question)
    }
}

/// The same name with the other type: that it is answered without an error is all that is expected.
fn companion(question: &Question) -> Question {
    let qtype = match question.qtype {
        QueryType::A => QueryType::Aaaa,
        QueryType::Aaaa | QueryType::Ptr | QueryType::Txt => QueryType::A,
    };
    Question { qtype, expect: Expect::NoError, ..question.clone() }
}
