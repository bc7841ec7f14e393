//! What is done to the processes under test, and the moments of a remedy that it waits for.

use nameward_messages::{ObjectKey, PodUid};

use super::super::child::{Failure, LOOK};
use super::super::forge::{Forger, Victim};
use super::super::lift::Undo;
use super::super::processes::{Process, Setup};
use super::*;
use crate::scenario::Moment;

/// How long the moment that a step waits for may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

impl Act<'_> {
    /// Whatever must be done beside the injection of a step, or before it. `None`: its moment did not come.
    pub(super) async fn prepare(&mut self, step: &Step) -> Result<Option<Undo>, Failure> {
        let moment = match &step.action {
            Action::KillAgentInRepair { .. } => Some(Moment::Repair),
            _ => step.once,
        };
        if let Some(moment) = moment
            && !self.reach(moment).await?
        {
            self.violations(vec![format!("there was no moment {moment:?} to wait for: {}", describe(&step.action))]);
            return Ok(None);
        }
        match &step.action {
            Action::KillAgentInRepair { node } => self.start_agent_again(node)?,
            Action::KillLeader {} => self.start_leader_again()?,
            Action::PauseLeader {} => {
                let leader = self.leader()?;
                leader.hold(true)?;
                self.held = Some(leader.pod().to_owned());
            }
            Action::WakeLeader {} => {
                let pod = self.held.take().ok_or("no coordinator was stopped")?;
                // What it did before it was stopped has been looked at by now.
                self.look();
                self.observer.wakes(&pod);
                self.process(&pod)?.hold(false)?;
            }
            Action::KillSwitch { on } => {
                let at = self.at();
                self.observer.switched(on.then_some(at));
            }
            Action::ForgeReports { node, pod } => return Ok(Some(self.forge(node, pod)?)),
            _ => {}
        }
        Ok(Some(Undo::Nothing))
    }

    /// Those that were stopped go on, before the faults are lifted.
    pub(super) fn wake(&mut self) -> Result<(), Failure> {
        self.observer.switched(None);
        if let Some(pod) = self.held.take() {
            self.process(&pod)?.hold(false)?;
        }
        Ok(())
    }

    /// Waits for a moment. Whether it came.
    async fn reach(&mut self, moment: Moment) -> Result<bool, Failure> {
        let (began, mut looked) = (Instant::now(), Instant::now());
        loop {
            let come = match moment {
                Moment::Repair => {
                    let world = Arc::clone(&self.cluster.world);
                    tokio::task::spawn_blocking(move || world.repair_began()).await??
                }
                Moment::Intent => {
                    let incidents = self.cluster.api.list("DnsIncident", "", "");
                    incidents.iter().any(|incident| incident["status"]["intent"].is_object())
                }
                Moment::Withdrawn => {
                    self.look_at_repairs().await?;
                    let agents = self.cluster.api.list("NodeAgent", "", "");
                    let permitted = agents.iter().any(|agent| agent["spec"]["permit"].is_object());
                    !permitted && self.observer.repair_stands()
                }
                Moment::Act => {
                    let at = self.at();
                    self.observer.look_at_log(&self.cluster.api, &self.cluster.world, at);
                    !self.observer.result.remedies.is_empty()
                }
            };
            if come {
                return Ok(true);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                if !self.look() {
                    return Ok(false);
                }
            }
            if began.elapsed() > PATIENCE * self.slack() {
                return Ok(false);
            }
            tokio::time::sleep(LOOK / 10).await;
        }
    }

    fn process(&self, pod: &str) -> Result<&Process, Failure> {
        let process = self.cluster.processes.iter().find(|process| process.pod() == pod);
        process.ok_or_else(|| format!("there is no process of {pod}").into())
    }

    /// The coordinator that leads.
    fn leader(&self) -> Result<&Process, Failure> {
        let leases = self.cluster.api.list("Lease", "", "");
        let holders: Vec<&str> = leases.iter().filter_map(|lease| lease["spec"]["holderIdentity"].as_str()).collect();
        let leads = |process: &&Process| holders.iter().any(|holder| process.is(holder));
        self.cluster.processes.iter().find(leads).ok_or_else(|| "no coordinator leads".into())
    }

    fn start_leader_again(&mut self) -> Result<(), Failure> {
        let leader = self.leader()?;
        let (pod, number) = (leader.pod().to_owned(), leader.coordinator().unwrap_or(1));
        let again = format!("{}-again", self.scenario.name);
        let setup =
            Setup { node: None, coordinator: number, config: &self.scenario.config, panics: false, scenario: &again };
        let process = self.cluster.processes.iter_mut().find(|process| process.pod() == pod);
        Ok(process.ok_or("no coordinator leads")?.kill_and_start(&setup)?)
    }

    fn start_agent_again(&mut self, node: &str) -> Result<(), Failure> {
        let again = format!("{}-again", self.scenario.name);
        let setup =
            Setup { node: Some(node), coordinator: 1, config: &self.scenario.config, panics: false, scenario: &again };
        let agent = self.cluster.processes.iter_mut().find(|process| process.is_agent_of(node));
        Ok(agent.ok_or("there is no such agent")?.kill_and_start(&setup)?)
    }

    fn forge(&mut self, node: &str, pod: &str) -> Result<Undo, Failure> {
        let key = self.cluster.world.key(pod)?;
        let (namespace, name) = key.split_once('/').ok_or("a pod has a namespace")?;
        let object = self.cluster.api.get("Pod", namespace, name).ok_or("there is no such pod")?;
        let uid = PodUid::from(object["metadata"]["uid"].as_str().unwrap_or_default());
        self.process(node)?.hold(true)?;
        self.held = Some(node.to_owned());
        let victim = Victim { key: ObjectKey::new(namespace, name), uid };
        Ok(Undo::Forger(Box::new(Forger::begin(&self.cluster.api, node, victim)?)))
    }
}
