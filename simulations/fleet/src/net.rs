//! The ways to the API server: requests are delayed, lost, throttled; replies are lost after the change was made.

use std::time::Duration;

use nameward_cluster::lease;
use nameward_coordinator::mind::{NodeState, Output as Want, Written};
use nameward_coordinator::reporter::{ReadResult, WriteResult};
use nameward_messages::report::NodeReport;
use nameward_messages::{Mono, NodeName};
use nameward_remedy::shared::call::{ApiCall, CallError, CallResult};

use crate::check::Act;
use crate::world::{Event, World};

/// Who asks; `life` tells an earlier life of the same process from this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Process { p: usize, life: u32 },
    Agent { n: usize, life: u32 },
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Shared { id: u64, call: ApiCall, act: Act },
    Lease { serial: u64, call: lease::Call },
    Want(Box<Want>),
    ReadNode(NodeName),
    AgentRead,
    AgentCreate,
    AgentWrite(Box<NodeReport>),
}

/// What comes back.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Shared { id: u64, result: CallResult },
    Lease { serial: u64, result: lease::CallResult },
    Wrote { what: Written, done: bool },
    NodeRead { node: NodeName, state: Option<NodeState> },
    AgentRead(ReadResult),
    AgentWrote(WriteResult),
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) who: Who,
    pub(crate) request: Request,
    /// Until when the sender waits, in true time; the reply is lost beyond that, or if there is none.
    pub(crate) waits_until: Option<Mono>,
}

/// How the API server is for everybody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ways {
    /// Nothing reaches it before.
    pub(crate) down_until: Mono,
    /// 429 to everything before.
    pub(crate) throttled_until: Mono,
    /// Chances in 1000 that something goes wrong with a request, before `lossy_until`.
    pub(crate) trouble: u32,
    pub(crate) lossy_until: Mono,
    /// Requests take up to this long, before `lossy_until`.
    pub(crate) slow: Duration,
    /// Answers to the shared executor are told twice, in 1000.
    pub(crate) twice: u32,
}

/// What becomes of a request that the API server does not carry out.
#[derive(Clone, Copy, Debug)]
enum Lost {
    /// It never left.
    NotSent,
    /// No answer in time.
    Silence,
    /// 429.
    Throttled,
}

impl World {
    /// Sends a request on its way. Exactly one answer comes back to the same life of the sender, if it lives to see it.
    pub(crate) fn send(&mut self, who: Who, request: Request) {
        let (cut_until, clock, timeout) = match who {
            Who::Process { p, .. } => (self.processes[p].cut_until, self.processes[p].clock, self.call_timeout()),
            Who::Agent { n, .. } => (self.agents[n].cut_until, self.agents[n].clock, self.call_timeout()),
        };
        let gives_up = clock.when(clock.now(self.now).mono + timeout);
        if self.now < cut_until || self.now < self.ways.down_until {
            // Half of them find no route, half of them hear nothing.
            let lost = if self.rng.bool() { Lost::NotSent } else { Lost::Silence };
            self.lose(who, request, lost, gives_up);
            return;
        }
        let lossy = self.now < self.ways.lossy_until;
        let mut way = Duration::from_micros(self.rng.u64(1_000..30_000));
        let mut reply_lost = false;
        if lossy {
            let slow = u64::try_from(self.ways.slow.as_millis()).unwrap_or(0);
            way += Duration::from_millis(self.rng.u64(0..=slow));
            if self.rng.u32(0..1000) < self.ways.trouble {
                match self.rng.u32(0..10) {
                    0 | 1 => return self.lose(who, request, Lost::NotSent, gives_up),
                    2..=4 => return self.lose(who, request, Lost::Silence, gives_up),
                    // On the wire when the sender had given up: it arrives all the same.
                    5 => way = Duration::from_millis(self.rng.u64(4_000..9_500)),
                    _ => {}
                }
                reply_lost = true;
            }
        }
        let at = self.now + way;
        if reply_lost {
            self.lose(who, request.clone(), Lost::Silence, gives_up);
        }
        let waits_until = (!reply_lost).then_some(gives_up);
        self.queue.push(at, Event::Arrive(Box::new(Envelope { who, request, waits_until })));
    }

    /// The sender learns that nothing came of it, or learns nothing.
    fn lose(&mut self, who: Who, request: Request, lost: Lost, gives_up: Mono) {
        let at = if matches!(lost, Lost::NotSent) { self.now + Duration::from_millis(3) } else { gives_up };
        let answer = lost_answer(request, lost);
        if let Some(answer) = answer {
            self.queue.push(at, self.answer_event(who, answer));
        }
    }

    /// A request is there.
    pub(crate) fn arrive(&mut self, envelope: Envelope) {
        let Envelope { who, request, waits_until } = envelope;
        let throttled = self.now < self.ways.throttled_until && !matches!(request, Request::Lease { .. });
        let answer = if throttled { lost_answer(request, Lost::Throttled) } else { self.serve(who, request) };
        let Some(answer) = answer else { return };
        let back = self.now + Duration::from_micros(self.rng.u64(500..10_000));
        let Some(until) = waits_until else { return };
        if back <= until {
            if matches!(answer, Answer::Shared { .. }) && self.ways.twice > self.rng.u32(0..1000) {
                let again = back + Duration::from_millis(self.rng.u64(0..2_000));
                self.queue.push(again, self.answer_event(who, answer.clone()));
            }
            self.queue.push(back, self.answer_event(who, answer));
        } else {
            let lost = unknown(answer);
            self.queue.push(until, self.answer_event(who, lost));
        }
    }

    fn serve(&mut self, who: Who, request: Request) -> Option<Answer> {
        Some(match (who, request) {
            (Who::Process { p, .. }, Request::Shared { id, call, act }) => {
                let result = self.carry_out(p, &call, &act);
                self.check_read(p, &call, &result);
                Answer::Shared { id, result: self.tampered_reply(p, &call, result) }
            }
            (Who::Process { p, life }, Request::Lease { serial, call }) => {
                let result = self.lease_call(&call);
                self.check_lease(p, life, serial, &call, &result);
                Answer::Lease { serial, result }
            }
            (_, Request::Want(want)) => {
                let half = self.now < self.ways.lossy_until && self.rng.u32(0..1000) < self.ways.trouble / 4;
                let (what, done) = self.grant(&want, half)?;
                Answer::Wrote { what, done }
            }
            (_, Request::ReadNode(node)) => Answer::NodeRead { state: self.node_state(&node), node },
            (Who::Agent { n, .. }, Request::AgentRead) => Answer::AgentRead(self.agent_reads(n)),
            (Who::Agent { n, .. }, Request::AgentCreate) => Answer::AgentWrote(self.agent_creates(n)),
            (Who::Agent { n, .. }, Request::AgentWrite(report)) => {
                let report = self.forged(n, *report);
                Answer::AgentWrote(self.agent_writes(n, report))
            }
            _ => return None,
        })
    }

    fn answer_event(&self, who: Who, answer: Answer) -> Event {
        Event::Answer { who, answer: Box::new(answer) }
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.spec.config.kubernetes.call_timeout.0
    }
}

fn lost_answer(request: Request, lost: Lost) -> Option<Answer> {
    Some(match request {
        Request::Shared { id, .. } => {
            let error = match lost {
                Lost::NotSent => CallError::NotSent("no route to the API server".to_owned()),
                Lost::Silence => CallError::Unknown("no answer within the call's time".to_owned()),
                Lost::Throttled => CallError::NotNow("too many requests; Retry-After: 1".to_owned()),
            };
            Answer::Shared { id, result: Err(error) }
        }
        Request::Lease { serial, .. } => {
            Answer::Lease { serial, result: lease::CallResult::Failed("no answer".to_owned()) }
        }
        Request::Want(want) => Answer::Wrote { what: about(&want)?, done: false },
        Request::ReadNode(node) => Answer::NodeRead { node, state: None },
        Request::AgentRead => Answer::AgentRead(ReadResult::Failed("no answer".to_owned())),
        Request::AgentCreate | Request::AgentWrite(_) => {
            Answer::AgentWrote(WriteResult::Failed("no answer".to_owned()))
        }
    })
}

/// What the sender knows of an answer that came too late.
fn unknown(answer: Answer) -> Answer {
    match answer {
        Answer::Shared { id, .. } => {
            Answer::Shared { id, result: Err(CallError::Unknown("no answer within the call's time".to_owned())) }
        }
        Answer::Lease { serial, .. } => {
            Answer::Lease { serial, result: lease::CallResult::Failed("no answer".to_owned()) }
        }
        Answer::Wrote { what, .. } => Answer::Wrote { what, done: false },
        Answer::NodeRead { node, .. } => Answer::NodeRead { node, state: None },
        Answer::AgentRead(_) => Answer::AgentRead(ReadResult::Failed("no answer".to_owned())),
        Answer::AgentWrote(_) => Answer::AgentWrote(WriteResult::Failed("no answer".to_owned())),
    }
}

fn about(want: &Want) -> Option<Written> {
    match want {
        Want::OpenIncident { name, .. } | Want::UpdateIncident { name, .. } | Want::DeleteIncident { name, .. } => {
            Some(Written::Incident(name.clone()))
        }
        Want::WriteOrders { node, .. } => Some(Written::Orders(node.clone())),
        _ => None,
    }
}
