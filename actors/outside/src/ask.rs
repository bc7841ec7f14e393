//! Asks a plan's questions from where the process stands: all at once, a failure confirmed from fresh ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use nameward_kernel::exchange::{Ask, Query, Talk, tcp, udp};
use nameward_kernel::sockets::{not_asked, open_one};
use nameward_messages::probe::{Expect, NotAsked, Outcome, OutcomeKind};
use nameward_messages::targets::{Family, Transport};

use crate::asking::{Answer, BOUND, CONFIRM, Plan};

/// A question, encoded.
#[derive(Clone)]
struct Encoded {
    query: Arc<Query>,
    expect: Arc<Expect>,
}

/// Asks. One answer per ask, in order; done within [`BOUND`], whatever happens.
pub async fn ask(plan: &Plan) -> Vec<Answer> {
    let encoded: BTreeMap<usize, Encoded> = plan
        .questions
        .iter()
        .enumerate()
        .filter_map(|(n, question)| {
            let query = Arc::new(Query::new(question, None).ok()?);
            Some((n, Encoded { query, expect: Arc::new(question.expect.clone()) }))
        })
        .collect();
    let all = plan.asks.iter().map(|(to, transport, question)| {
        let encoded = encoded.get(&usize::from(*question)).cloned();
        async move {
            match encoded {
                Some(encoded) => confirmed(&encoded, *to, *transport, plan).await,
                None => NOTHING,
            }
        }
    });
    // A bound besides, so that no pod of ours outlives its use whatever the network does.
    tokio::time::timeout(BOUND, join_all(all)).await.unwrap_or_else(|_| vec![NOTHING; plan.asks.len()])
}

/// Nothing was learned.
const NOTHING: Answer = Answer { outcome: OutcomeKind::NotAsked, latency_us: 0, failed: false };

/// Asks once; after a failure three times more, of which two must fail.
async fn confirmed(encoded: &Encoded, to: SocketAddr, transport: Transport, plan: &Plan) -> Answer {
    let first = once(encoded, to, transport, plan.timeout()).await;
    if first.outcome.good() != Some(false) {
        return answer(&first, false);
    }
    tokio::time::sleep(plan.confirm_after()).await;
    let again = join_all((0..CONFIRM).map(|_| once(encoded, to, transport, plan.timeout()))).await;
    let failed = again.iter().filter(|talk| talk.outcome.good() == Some(false)).count() >= CONFIRM.div_ceil(2);
    // What is told fits what is concluded: a failure of the confirmation, or its answer.
    let told = again.iter().find(|talk| (talk.outcome.good() == Some(false)) == failed).unwrap_or(&first);
    answer(told, failed)
}

fn answer(talk: &Talk, failed: bool) -> Answer {
    let latency_us = u32::try_from(talk.latency.as_micros()).unwrap_or(u32::MAX);
    Answer { outcome: talk.outcome.kind(), latency_us, failed }
}

async fn once(encoded: &Encoded, to: SocketAddr, transport: Transport, patience: Duration) -> Talk {
    let ask = Ask { to, query: Arc::clone(&encoded.query), expect: Arc::clone(&encoded.expect), id: fastrand::u16(..) };
    match open_one(transport, Family::of(to.ip())) {
        Ok(socket) => match transport {
            Transport::Udp => udp::exchange(socket, &ask, patience).await,
            Transport::Tcp => tcp::exchange(socket, &ask, patience).await,
        },
        Err(error) => {
            let why = error.raw_os_error().map_or(NotAsked::LocalError, not_asked);
            Talk { outcome: Outcome::NotAsked { why }, latency: Duration::ZERO, connect: None }
        }
    }
}
