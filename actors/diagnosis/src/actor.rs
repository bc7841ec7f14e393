//! The shell of diagnosis: receives, steps the mind, starts the collectors, tells.

use std::sync::Arc;

use nameward_config::Config;
use nameward_kernel::collect::Limits;
use nameward_kernel::enter::EnterPool;
use nameward_kernel::trace::Followed;
use nameward_messages::cluster_view::{KillSwitch, PAUSE_FILE};
use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::pods::{ContainerOomKilled, HostNetworkPod, RolloutObserved};
use nameward_messages::probe::{PathKey, ProbeRequest, ProberTells};
use nameward_messages::report::Complaint;
use nameward_messages::targets::Targets;
use nameward_messages::verdict::DiagnosisTells;
use nameward_messages::workload::CorednsPodState;
use nameward_messages::{Mono, NodeName};
use nameward_supervision::{Actor, Context, Listener, Message, Retain, WhenFull, fan_out};

use crate::collect;
use crate::mind::{DiagnosisMind, Input, Output, Settings, Want, WantTrace};
use crate::record::Sample;

/// What diagnosis is told.
#[derive(Clone, Debug)]
pub enum DiagnosisMessage {
    /// By the prober.
    Prober(ProberTells),
    /// By the watcher: all targets.
    Targets(Arc<Targets>),
    /// By netns.
    Namespace(NamespaceChanged),
    /// By the watcher.
    OomKilled(ContainerOomKilled),
    /// By the watcher: what the containers of this node's CoreDNS pods do, whole.
    Coredns(Arc<Vec<CorednsPodState>>),
    /// By the watcher: pods of this node that get the node's resolver and need the cluster's, whole.
    Misfits(Arc<Vec<HostNetworkPod>>),
    /// By the watcher.
    Rollout(RolloutObserved),
    /// By the coordinator: what other nodes cannot reach here, whole.
    Complaints(Vec<Complaint>),
    /// By its own collectors.
    Evidence {
        /// Which collection.
        id: u64,
        /// What was read.
        sample: Box<Sample>,
    },
    /// By its own trace.
    Traced {
        /// Which trace.
        id: u64,
        /// What was told; `None`: nothing, or it was not done.
        followed: Option<Box<Followed>>,
    },
    /// By the watcher: the kill switch of the policy ConfigMap.
    KillSwitch(KillSwitch),
    /// The configuration changed.
    Reconfigure(Arc<Config>),
}

impl Message for DiagnosisMessage {
    fn when_full(&self) -> WhenFull {
        match self {
            Self::Evidence { .. } | Self::Traced { .. } => WhenFull::DropNewest,
            _ => WhenFull::DropOldest,
        }
    }

    fn merge_key(&self) -> Option<String> {
        match self {
            Self::Targets(_) => Some("targets".to_owned()),
            Self::Coredns(_) => Some("coredns".to_owned()),
            Self::Misfits(_) => Some("misfits".to_owned()),
            Self::Rollout(_) => Some("rollout".to_owned()),
            Self::Complaints(_) => Some("complaints".to_owned()),
            Self::KillSwitch(_) => Some("kill-switch".to_owned()),
            Self::Reconfigure(_) => Some("config".to_owned()),
            Self::Prober(_) | Self::Namespace(_) | Self::OomKilled(_) | Self::Evidence { .. } | Self::Traced { .. } => {
                None
            }
        }
    }

    fn retain(&self) -> Retain {
        let path_key = |path: &PathKey| format!("path {path:?}");
        match self {
            Self::Targets(_) => Retain::Keep("targets".to_owned()),
            Self::Coredns(_) => Retain::Keep("coredns".to_owned()),
            Self::Misfits(_) => Retain::Keep("misfits".to_owned()),
            Self::Rollout(_) => Retain::Keep("rollout".to_owned()),
            Self::Complaints(_) => Retain::Keep("complaints".to_owned()),
            Self::KillSwitch(_) => Retain::Keep("kill-switch".to_owned()),
            Self::Reconfigure(_) => Retain::Keep("config".to_owned()),
            Self::Prober(ProberTells::Suspected(suspicion)) => Retain::Keep(path_key(&suspicion.path)),
            Self::Prober(ProberTells::Cleared { path, .. }) => Retain::Forget(path_key(path)),
            Self::Namespace(NamespaceChanged::Found(n)) => Retain::Keep(format!("namespace {} {}", n.pod, n.cookie.0)),
            Self::Namespace(NamespaceChanged::Gone { pod, cookie }) => {
                Retain::Forget(format!("namespace {pod} {}", cookie.0))
            }
            // The last kill of a container stands for those before it.
            Self::OomKilled(kill) => Retain::Keep(format!("oom {} {}", kill.pod, kill.container)),
            Self::Prober(ProberTells::Round(_) | ProberTells::Answer(_))
            | Self::Evidence { .. }
            | Self::Traced { .. } => Retain::No,
        }
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// Whom diagnosis tells, and what it reads with.
#[derive(Clone)]
pub struct Wiring {
    /// This node.
    pub node: NodeName,
    /// Threads that enter namespaces; without them nothing is read and verdicts stay probable.
    pub pool: Option<EnterPool>,
    /// Who hears verdicts, deferrals and the matrix.
    pub listeners: Vec<Listener<DiagnosisTells>>,
    /// The prober.
    pub prober: Listener<ProbeRequest>,
}

impl std::fmt::Debug for Wiring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wiring")
            .field("node", &self.node)
            .field("listeners", &self.listeners.len())
            .finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct DiagnosisActor {
    mind: DiagnosisMind,
    limits: Limits,
    wiring: Wiring,
}

impl DiagnosisActor {
    /// From the configuration in force.
    #[must_use]
    pub fn new(config: &Config, wiring: Wiring) -> Self {
        let mind = DiagnosisMind::new(wiring.node.clone(), Settings::from(config));
        Self { mind, limits: limits(config), wiring }
    }

    fn step(&mut self, input: Input, ctx: &Context<Self>) {
        let mut out = Vec::new();
        self.mind.step(ctx.now(), input, &mut out);
        for output in out {
            match output {
                Output::Collect(want) => self.collect(want, ctx),
                Output::Probe(request) => (self.wiring.prober)(request),
                Output::Trace(want) => self.trace(want, ctx),
                Output::Tell(tell) => {
                    log(&tell);
                    fan_out(&self.wiring.listeners, tell);
                }
            }
        }
    }

    /// Traces a probe, unless the local kill switch is thrown.
    fn trace(&self, want: WantTrace, ctx: &Context<Self>) {
        let (me, pool) = (ctx.me(), self.wiring.pool.clone());
        let tell = move |id, followed| {
            me.tell(DiagnosisMessage::Traced { id, followed });
        };
        let Some(pool) = pool.filter(|_| !paused_here()) else {
            tell(want.id, None);
            return;
        };
        ctx.spawn(async move {
            let id = want.id;
            let followed = collect::trace(&pool, want).await;
            tell(id, followed.map(Box::new));
        });
    }

    fn collect(&self, want: Want, ctx: &Context<Self>) {
        let (me, limits, pool) = (ctx.me(), self.limits, self.wiring.pool.clone());
        ctx.spawn(async move {
            let sample = match pool {
                Some(pool) => collect::sample(&pool, &want, limits).await,
                None => Sample { at: nameward_supervision::clock::now().mono, ..Sample::default() },
            };
            me.tell(DiagnosisMessage::Evidence { id: want.id, sample: Box::new(sample) });
        });
    }
}

/// Whether the local kill switch is thrown. What cannot be looked at counts as thrown.
fn paused_here() -> bool {
    !matches!(std::path::Path::new(PAUSE_FILE).try_exists(), Ok(false))
}

impl Actor for DiagnosisActor {
    type Message = DiagnosisMessage;

    fn handle(&mut self, message: DiagnosisMessage, ctx: &Context<Self>) {
        let input = match message {
            DiagnosisMessage::Prober(tells) => Input::Prober(tells),
            DiagnosisMessage::Targets(targets) => Input::Targets(targets),
            DiagnosisMessage::Namespace(change) => Input::Namespace(change),
            DiagnosisMessage::OomKilled(kill) => Input::OomKilled(kill),
            DiagnosisMessage::Coredns(pods) => Input::Coredns(pods),
            DiagnosisMessage::Misfits(pods) => Input::Misfits(pods),
            DiagnosisMessage::Rollout(rollout) => Input::Rollout(rollout),
            DiagnosisMessage::Complaints(list) => Input::Complaints(list),
            DiagnosisMessage::Evidence { id, sample } => Input::Evidence { id, sample },
            DiagnosisMessage::Traced { id, followed } => Input::Traced { id, followed },
            DiagnosisMessage::KillSwitch(switch) => Input::KillSwitch(switch),
            DiagnosisMessage::Reconfigure(config) => {
                self.limits = limits(&config);
                Input::Configure(Settings::from(&*config))
            }
        };
        self.step(input, ctx);
    }

    fn deadline(&self) -> Option<Mono> {
        self.mind.deadline()
    }

    fn tick(&mut self, ctx: &Context<Self>) {
        self.step(Input::Tick, ctx);
    }
}

fn limits(config: &Config) -> Limits {
    Limits { within: config.diagnosis.collect_timeout.0, bytes: config.diagnosis.collect_bytes.0 }
}

fn log(tell: &DiagnosisTells) {
    match tell {
        DiagnosisTells::Stands(v) if v.at == v.since => {
            let first = v.evidence.first().map(|e| format!("{}: {}", e.read, e.says)).unwrap_or_default();
            tracing::warn!(cause = %v.cause, subject = %v.subject, confidence = ?v.confidence, evidence = %first, "verdict stands");
        }
        DiagnosisTells::Stands(v) => {
            tracing::debug!(cause = %v.cause, subject = %v.subject, confidence = ?v.confidence, "verdict stands on");
        }
        DiagnosisTells::Ended { key, recovered, .. } => {
            tracing::info!(cause = %key.cause, subject = %key.subject, recovered, "verdict ended");
        }
        DiagnosisTells::Deferred(list) => {
            for deferral in list {
                tracing::info!(subject = %deferral.subject, node = %deferral.to_node, because = %deferral.because, "left to another node");
            }
        }
        DiagnosisTells::Examined(pods) if !pods.is_empty() => {
            let pods: Vec<&str> = pods.iter().map(|pod| pod.as_str()).collect();
            tracing::info!(pods = %pods.join(" "), "other nodes cannot reach these pods; nothing here explains it");
        }
        DiagnosisTells::Unmodelled(found) if !found.is_empty() => {
            tracing::warn!(found = %found.join("; "), "this is on the node and no rule knows how to read it");
        }
        DiagnosisTells::Recovered(recovery) => {
            let paths: Vec<String> = recovery.paths.iter().map(|p| format!("{}: {}", p.read, p.says)).collect();
            let (began, ended, samples, more) = (recovery.began, recovery.ended, recovery.samples, recovery.more);
            tracing::info!(%began, %ended, samples, more, paths = %paths.join("; "), "recovered before a cause was named");
        }
        DiagnosisTells::Matrix(_)
        | DiagnosisTells::Examined(_)
        | DiagnosisTells::Unmodelled(_)
        | DiagnosisTells::Way { .. } => {}
    }
}

#[cfg(test)]
mod tests;
