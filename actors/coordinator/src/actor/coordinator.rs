//! The shell of the coordinator. It keeps the Lease, too: who decides must know first that it may no longer.

use std::sync::Arc;

use nameward_cluster::calls::{CallError, Cluster, Note, NoteKind, Regarding};
use nameward_cluster::lease::{Asked, CallResult, Election, Rules};
use nameward_config::Config;
use nameward_messages::cluster_view::{ClusterView, KillSwitch};
use nameward_messages::guarding::{Breaker, RefusalReason};
use nameward_messages::health::Stage;
use nameward_messages::plan::{LeaseState, Plan, SharedRemedyTells};
use nameward_messages::pods::ContainerOomKilled;
use nameward_messages::remedy::{RemedyKind, RemedyRecord};
use nameward_messages::verdict::SubjectKind;
use nameward_messages::{Mono, NodeName, Now, ObjectKey};
use nameward_supervision::{Actor, Context, Listener, Message, Retain, WhenFull, fan_out};

use crate::mind::{CoordinatorMind, Input, NodeState, Output, ProxyPod, Written};

/// What the coordinator is told.
#[derive(Clone, Debug)]
pub enum CoordinatorMessage {
    /// The cluster.
    View(Arc<ClusterView>),
    /// The kill switch of the policy ConfigMap.
    KillSwitch(KillSwitch),
    /// A kill for want of memory.
    OomKilled(ContainerOomKilled),
    /// What the shared executor did.
    Shared(SharedRemedyTells),
    /// What came of a call about the Lease.
    LeaseDone {
        /// The call's number.
        serial: u64,
        /// What came of it.
        result: CallResult,
    },
    /// What came of reading a node.
    NodeRead {
        /// Which.
        node: NodeName,
        /// What was read; `None` when it could not be.
        state: Option<NodeState>,
    },
    /// What came of looking for a kube-proxy pod.
    KubeProxyRead {
        /// The node.
        node: NodeName,
        /// Its pod; `None` when there is none, or it could not be read.
        pod: Option<ProxyPod>,
    },
    /// What came of a write.
    Wrote {
        /// Which.
        what: Written,
        /// It was carried out.
        done: bool,
    },
    /// New settings.
    Reconfigure(Arc<Config>),
}

impl Message for CoordinatorMessage {
    fn when_full(&self) -> WhenFull {
        WhenFull::DropOldest
    }

    fn merge_key(&self) -> Option<String> {
        match self {
            Self::View(_) => Some("view".to_owned()),
            Self::KillSwitch(_) => Some("kill-switch".to_owned()),
            Self::Reconfigure(_) => Some("config".to_owned()),
            Self::OomKilled(_)
            | Self::Shared(_)
            | Self::LeaseDone { .. }
            | Self::NodeRead { .. }
            | Self::KubeProxyRead { .. }
            | Self::Wrote { .. } => None,
        }
    }

    fn retain(&self) -> Retain {
        self.merge_key().map_or(Retain::No, Retain::Keep)
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// What the coordinator works with and whom it tells.
#[derive(Clone)]
pub struct CoordinatorWiring {
    /// The API.
    pub cluster: Cluster,
    /// What stands in the Lease: see [`new_identity`]. The same for every incarnation of the actor in this process.
    pub identity: String,
    /// The Lease, after every change: the shared executor, metrics.
    pub leases: Vec<Listener<LeaseState>>,
    /// Plans: the shared executor.
    pub plans: Vec<Listener<Plan>>,
    /// Lines of ladders that the coordinator wrote itself, with their incident: metrics.
    pub records: Vec<Listener<(String, RemedyRecord)>>,
    /// Shared remedies that were refused, with the reason: metrics.
    pub refusals: Vec<Listener<(RemedyKind, RefusalReason)>>,
    /// Breakers that opened or closed: metrics.
    pub breakers: Vec<Listener<(Breaker, bool)>>,
    /// The local file of the kill switch.
    pub pause_file: std::path::PathBuf,
}

/// A claimant's name: `<host>_<random>`, unlike every other's and unlike that of an earlier life of this process.
#[must_use]
pub fn new_identity(host: &str) -> String {
    format!("{host}_{:016x}", fastrand::u64(..))
}

/// The coordinator.
pub struct CoordinatorActor {
    mind: CoordinatorMind,
    election: Election,
    wiring: CoordinatorWiring,
    config: Arc<Config>,
    told: Option<LeaseState>,
}

impl CoordinatorActor {
    /// One that knows nothing yet. Called by the factory, also after a panic: the Lease is read again then, and taken up
    /// at once, since this process still holds it.
    #[must_use]
    pub fn new(config: &Config, wiring: CoordinatorWiring) -> Self {
        let config = Arc::new(config.clone());
        let election = Election::new(wiring.identity.clone(), rules(&config), fastrand::u64(..));
        Self { mind: CoordinatorMind::new(Arc::clone(&config)), election, wiring, config, told: None }
    }

    fn step(&mut self, input: Input, ctx: &Context<Self>) {
        let now = ctx.now();
        let mut out = Vec::new();
        let paused = !matches!(self.wiring.pause_file.try_exists(), Ok(false));
        let lease = self.lease(now);
        if self.told.as_ref() != Some(&lease) {
            if self.told.as_ref().is_none_or(|told| told.leading != lease.leading) {
                tracing::info!(leading = lease.leading, identity = %lease.identity, "lease");
            }
            self.told = Some(lease.clone());
            fan_out(&self.wiring.leases, lease.clone());
            self.mind.step(now, Input::Lease(lease), &mut out);
        }
        self.mind.step(now, Input::PausedHere(paused), &mut out);
        self.mind.step(now, input, &mut out);
        for output in out {
            self.perform(now, output, ctx);
        }
        ctx.stage(match self.election.trouble() {
            Some(trouble) => Stage::Degraded(format!("the Lease: {trouble}")),
            None => Stage::Ready,
        });
    }

    fn lease(&self, now: Now) -> LeaseState {
        LeaseState {
            identity: self.wiring.identity.clone(),
            leading: self.election.leads(now.mono),
            act_until: self.election.acts_until(),
        }
    }

    fn keep_lease(&mut self, asked: Option<Asked>, ctx: &Context<Self>) {
        let Some(Asked { serial, call }) = asked else { return };
        let (cluster, me) = (self.wiring.cluster.clone(), ctx.me());
        let key = self.lease_key();
        ctx.spawn(async move {
            let result = cluster.lease(&key, call).await;
            me.tell(CoordinatorMessage::LeaseDone { serial, result });
        });
    }

    fn lease_key(&self) -> ObjectKey {
        ObjectKey::new(self.config.kubernetes.namespace.clone(), self.config.coordinator.lease_name.clone())
    }

    fn perform(&self, now: Now, output: Output, ctx: &Context<Self>) {
        let (cluster, me) = (self.wiring.cluster.clone(), ctx.me());
        match output {
            Output::Plan(plan) => fan_out(&self.wiring.plans, plan),
            Output::ReadNode(node) => ctx.spawn(async move {
                let state = match cluster.get_node(node.as_str()).await {
                    Ok(found) => Some(NodeState {
                        ready: found.ready(),
                        unschedulable: found.spec.is_some_and(|spec| spec.unschedulable),
                    }),
                    Err(error) => {
                        tracing::debug!(%node, error = %error.explain(), "a node was not read");
                        None
                    }
                };
                me.tell(CoordinatorMessage::NodeRead { node, state });
            }),
            Output::FindKubeProxy(node) => ctx.spawn(async move {
                let pod = match cluster.kube_proxy_on(&node).await {
                    Ok(found) => found.map(|pod| ProxyPod {
                        key: ObjectKey::new(pod.metadata.namespace.clone(), pod.metadata.name.clone()),
                        uid: pod.metadata.uid.as_str().into(),
                        resource_version: pod.metadata.resource_version.clone(),
                        terminating: pod.metadata.deletion_timestamp.is_some(),
                    }),
                    Err(error) => {
                        tracing::debug!(%node, error = %error.explain(), "kube-proxy's pod was not read");
                        None
                    }
                };
                me.tell(CoordinatorMessage::KubeProxyRead { node, pod });
            }),
            Output::NodeCondition { node, healthy, reason, message } => ctx.spawn(async move {
                let at = now.wall;
                if let Err(error) = cluster.write_node_condition(&node, healthy, reason, &message, at).await {
                    tracing::debug!(%node, error = %error.explain(), "a node's condition was not written");
                }
            }),
            Output::Breaker { breaker, open } => {
                if open {
                    tracing::warn!(breaker = breaker.label(), "a breaker is open");
                } else {
                    tracing::info!(breaker = breaker.label(), "a breaker is closed");
                }
                fan_out(&self.wiring.breakers, (breaker, open));
            }
            Output::Record { incident, record, reason } => {
                if let Some(reason) = reason {
                    fan_out(&self.wiring.refusals, (record.kind, reason));
                }
                tracing::info!(
                    %incident, remedy = %record.kind, outcome = record.outcome.label(), subject = %record.subject,
                    "{}", record.detail
                );
                fan_out(&self.wiring.records, (incident, record));
            }
            Output::OpenIncident { name, spec, status } => {
                tracing::warn!(incident = %name, "{}", status.summary);
                ctx.spawn(async move {
                    let written = match cluster.create_incident(&name, &spec).await {
                        Ok(made) => {
                            let version = made.metadata.resource_version;
                            cluster.write_incident(&name, Some(&version), &status).await.map(|_| ())
                        }
                        Err(error) => Err(error),
                    };
                    me.tell(wrote(Written::Incident(name), written));
                });
            }
            Output::UpdateIncident { name, resource_version, status } => ctx.spawn(async move {
                let written = cluster.write_incident(&name, Some(&resource_version), &status).await.map(|_| ());
                me.tell(wrote(Written::Incident(name), written));
            }),
            Output::DeleteIncident { name, uid } => ctx.spawn(async move {
                let deleted = cluster.delete_incident(&name, &uid).await;
                me.tell(wrote(Written::Incident(name), deleted));
            }),
            Output::WriteOrders { node, orders } => ctx.spawn(async move {
                let written = cluster.write_orders(&node, None, &orders).await.map(|_| ());
                me.tell(wrote(Written::Orders(node), written));
            }),
            Output::Event { subject, warning, reason, note } => {
                let kind = match subject.kind {
                    SubjectKind::Pod => "Pod",
                    SubjectKind::Node => "Node",
                    SubjectKind::Service => "Service",
                    SubjectKind::Deployment => "Deployment",
                    // An upstream is no object: the Event would have nowhere to stand.
                    SubjectKind::Upstream => return,
                };
                let about = Regarding {
                    kind: kind.to_owned(),
                    namespace: subject.namespace,
                    name: subject.name,
                    uid: subject.uid.map(|uid| uid.0),
                };
                let kind = if warning { NoteKind::Warning } else { NoteKind::Normal };
                let instance = self.wiring.identity.clone();
                let (reason, action) = (reason.to_owned(), reason.to_owned());
                let note = Note { about, kind, reason, action, note, instance, at: now.wall };
                ctx.spawn(async move {
                    if let Err(error) = cluster.write_event(&note).await {
                        tracing::debug!(error = %error.explain(), "an Event was not written");
                    }
                });
            }
        }
    }
}

fn wrote(what: Written, result: Result<(), CallError>) -> CoordinatorMessage {
    if let Err(error) = &result {
        tracing::debug!(error = %error.explain(), "a write of the coordinator failed");
    }
    CoordinatorMessage::Wrote { what, done: result.is_ok() }
}

fn rules(config: &Config) -> Rules {
    Rules {
        lease_duration: config.coordinator.lease_duration.0,
        renew_deadline: config.coordinator.renew_deadline.0,
        retry_period: config.coordinator.retry_period.0,
        call_timeout: config.kubernetes.call_timeout.0,
    }
}

impl Actor for CoordinatorActor {
    type Message = CoordinatorMessage;

    fn started(&mut self, ctx: &Context<Self>) {
        self.tick(ctx);
    }

    fn handle(&mut self, message: CoordinatorMessage, ctx: &Context<Self>) {
        let input = match message {
            CoordinatorMessage::View(view) => Input::View(view),
            CoordinatorMessage::KillSwitch(switch) => Input::KillSwitch(switch),
            CoordinatorMessage::OomKilled(kill) => Input::OomKilled(kill),
            CoordinatorMessage::Shared(tells) => Input::Shared(tells),
            CoordinatorMessage::LeaseDone { serial, result } => {
                let asked = self.election.done(ctx.now(), serial, result);
                self.keep_lease(asked, ctx);
                Input::Tick
            }
            CoordinatorMessage::NodeRead { node, state } => Input::NodeRead { node, state },
            CoordinatorMessage::KubeProxyRead { node, pod } => Input::KubeProxyRead { node, pod },
            CoordinatorMessage::Wrote { what, done } => Input::Wrote { what, done },
            CoordinatorMessage::Reconfigure(config) => {
                self.election.set_rules(rules(&config));
                self.config = Arc::clone(&config);
                Input::Configure(config)
            }
        };
        self.step(input, ctx);
    }

    fn deadline(&self) -> Option<Mono> {
        let election = self.election.deadline();
        Some(self.mind.deadline().map_or(election, |due| due.min(election)))
    }

    fn tick(&mut self, ctx: &Context<Self>) {
        if !ctx.draining() {
            let asked = self.election.poll(ctx.now());
            self.keep_lease(asked, ctx);
        }
        self.step(Input::Tick, ctx);
    }

    fn draining(&mut self, ctx: &Context<Self>) {
        // Given up, so that another need not wait for it to run out.
        if let Some(call) = self.election.release(ctx.now()) {
            let (cluster, key) = (self.wiring.cluster.clone(), self.lease_key());
            ctx.spawn(async move {
                cluster.lease(&key, call).await;
            });
        }
        fan_out(&self.wiring.leases, self.lease(ctx.now()));
    }
}
