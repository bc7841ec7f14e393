//! Faults, as a scenario names them, done to the world.

use std::sync::Arc;

use super::child::Failure;
use super::crashes::Crash;
use super::lift::Undo;
use super::objects;
use super::world::World;
use crate::apiserver::{Action as Fault, Handle, Match, Outage, Rule, Stale, User};
use crate::lab::NetFault;
use crate::scenario::{Action, Role, Trouble};

/// What was done.
pub(super) struct Done {
    /// As a person would do it.
    pub did: Vec<String>,
    /// How it is taken back.
    pub undo: Undo,
}

/// Does it.
pub(super) async fn inject(world: &Arc<World>, api: &Handle, action: &Action) -> Result<Done, Failure> {
    let (world, api, action) = (Arc::clone(world), api.clone(), action.clone());
    tokio::task::spawn_blocking(move || carry_out(&world, &api, action)).await?
}

fn carry_out(world: &World, api: &Handle, action: Action) -> Result<Done, Failure> {
    let network = |fault| {
        let injected = world.inject(fault)?;
        Ok(Done { did: injected.did.clone(), undo: Undo::Network(injected) })
    };
    let silent = |undo| Ok(Done { did: Vec::new(), undo });
    match action {
        Action::Dns { pod, command } => {
            world.tell(&pod, &command.parse()?)?;
            silent(Undo::Dns(pod))
        }
        Action::Upstream { command } => {
            world.tell_upstream(&command.parse()?)?;
            silent(Undo::Upstream)
        }
        Action::Tool { place, run, undo, input } => Ok(world.tool(&place, &run, &undo, &input)?),
        Action::Run { place, run } => Ok(world.run(&place, &run)?),
        Action::Api { kind, namespace, name, patch, hold } => {
            objects::patch(world, api, &objects::Target { kind, namespace, name }, &patch, hold)
        }
        Action::Delete { kind, namespace, name } => {
            objects::delete(world, api, &objects::Target { kind, namespace, name })
        }
        Action::LeaveEvicted { pod } => objects::leave_evicted(world, api, &pod),
        Action::File { pod, path, text } => Ok(world.write_file(&pod, &path, &text)?),
        Action::Hang { pod } => {
            world.hang(&pod, true)?;
            silent(Undo::Hang(pod))
        }
        Action::MemoryDemand { bytes } => {
            world.demand(bytes.0);
            silent(Undo::Demand)
        }
        Action::CrashLoop { pod, exit_code, message } => {
            let pod = pod.map(|pod| world.key(&pod)).transpose()?;
            world.crash(Some(Crash { pod, exit_code, message }));
            silent(Undo::Crash)
        }
        Action::NoAddresses { node } => {
            world.without_addresses(&node, true);
            silent(Undo::Addresses(node))
        }
        Action::StopUpstream {} => {
            world.stop_upstream();
            silent(Undo::StopUpstream)
        }
        // Done where the processes are known.
        Action::KillAgentInRepair { .. }
        | Action::PauseLeader {}
        | Action::WakeLeader {}
        | Action::KillLeader {}
        | Action::ForgeReports { .. } => silent(Undo::Nothing),
        Action::KillSwitch { on } => objects::kill_switch(api, on),
        Action::ApiTrouble { trouble, verb, resource, of, acts_only, delay, times } => {
            let action = match trouble {
                Trouble::LoseReply => Fault::LoseReply,
                Trouble::Throttle => Fault::Answer { code: 429, retry_after: Some(1) },
                Trouble::Slow => Fault::Delay(delay.0),
                Trouble::SlowReply => Fault::DelayReply(delay.0),
            };
            let user = of.map(|role| {
                let name = match role {
                    Role::Agent => "nameward-agent",
                    Role::Coordinator => "nameward-coordinator",
                };
                User::service_account("nameward", name, None).name
            });
            api.inject(Rule { matching: Match { verb, resource, name: None, user, acts_only }, action, times });
            silent(Undo::Troubles)
        }
        Action::ApiStale {} => {
            api.stale(Stale::Cache);
            silent(Undo::Troubles)
        }
        Action::ApiWell {} => {
            api.clear_faults();
            silent(Undo::Nothing)
        }
        Action::HoldProxy { node } => network(NetFault::ProxyHeld { node }),
        Action::KeepFlows { node } => network(NetFault::FlowsKept { node }),
        Action::FlushServiceRules { node } => network(NetFault::ServiceRulesFlushed { node }),
        Action::ForwardDrop { node } => network(NetFault::ForwardPolicyDrop { node }),
        Action::DeleteDefaultRoute { pod } => network(NetFault::DefaultRouteDeleted { pod: world.key(&pod)? }),
        Action::DetachVeth { pod } => network(NetFault::VethDetached { pod: world.key(&pod)? }),
        Action::WrongNameserver { pod, nameserver } => {
            network(NetFault::NameserverReplaced { pod: world.key(&pod)?, nameserver })
        }
        Action::RollingUpdate {} => {
            let restarted = serde_json::json!({"spec": {"template": {"metadata": {"annotations":
                {"kubectl.kubernetes.io/restartedAt": "2026-11-22T10:00:00Z"}}}}});
            api.strategic("Deployment", "kube-system", "coredns", "", restarted)?;
            let did = vec!["kubectl -n kube-system rollout restart deployment coredns".to_owned()];
            Ok(Done { did, undo: Undo::Nothing })
        }
        Action::ApiDown {} => {
            api.outage(Outage::Reset);
            silent(Undo::Outage)
        }
        Action::ApiUp {} => {
            api.outage(Outage::None);
            silent(Undo::Nothing)
        }
    }
}

/// What happens, for the timeline.
pub(super) fn describe(action: &Action) -> String {
    match action {
        Action::Dns { pod, command } => match command.as_str() {
            "udp close" => format!("{pod} closes its UDP socket; TCP and /health go on answering"),
            "udp stuck" => format!("{pod} stops reading its UDP socket; TCP and /health go on answering"),
            other => format!("{pod} is told `{other}`"),
        },
        Action::Upstream { command } => format!("the upstream resolver is told `{command}`"),
        Action::Tool { place, .. } => format!("commands run on {place}"),
        Action::Run { place, .. } => format!("programs start on {place}"),
        Action::Api { kind, name, .. } => format!("{kind} {name} is changed"),
        Action::Delete { kind, name, .. } => format!("{kind} {name} is deleted"),
        Action::LeaveEvicted { pod } => format!("beside {pod} lies what is left of a pod that its kubelet evicted"),
        Action::File { pod, path, .. } => format!("{path} of {pod} is overwritten"),
        Action::HoldProxy { node } => format!("kube-proxy of {node} writes no more"),
        Action::KeepFlows { node } => format!("kube-proxy of {node} leaves old conntrack entries"),
        Action::KillAgentInRepair { node } => format!("the agent on {node} is killed in the middle of its repair"),
        Action::Hang { pod } => format!("{pod} hangs (SIGSTOP)"),
        Action::CrashLoop { pod, exit_code, message } => {
            let who = pod.as_deref().unwrap_or("every CoreDNS process");
            format!("{who} ends whenever it is started, with exit status {exit_code}: {message}")
        }
        Action::NoAddresses { node } => format!("{node} has no address left for a pod"),
        Action::MemoryDemand { bytes } => format!("every CoreDNS process needs {bytes} from now on"),
        Action::FlushServiceRules { node } => format!("kube-proxy's service rules vanish on {node}"),
        Action::DeleteDefaultRoute { pod } => format!("{pod} loses its default route"),
        Action::DetachVeth { pod } => format!("the veth of {pod} is taken off its bridge"),
        Action::ForwardDrop { node } => format!("the FORWARD policy of {node} becomes DROP"),
        Action::WrongNameserver { pod, nameserver } => format!("resolv.conf of {pod} names {nameserver}"),
        Action::StopUpstream {} => "the upstream resolver stops".to_owned(),
        Action::RollingUpdate {} => "CoreDNS is rolled".to_owned(),
        Action::ApiTrouble { trouble, verb, resource, of, acts_only, delay, times } => {
            let whose = of.map_or("", |role| match role {
                Role::Agent => " of agents",
                Role::Coordinator => " of the coordinator",
            });
            let which = if *acts_only { " that are no dry runs" } else { "" };
            let what = [verb.as_deref(), resource.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
            let times = times.map_or_else(String::new, |n| format!(", {n} times"));
            let how = match trouble {
                Trouble::LoseReply => "are carried out and get no answer".to_owned(),
                Trouble::Throttle => "are answered 429".to_owned(),
                Trouble::Slow => format!("wait for {delay}"),
                Trouble::SlowReply => format!("are answered {delay} after they were carried out"),
            };
            format!("requests{whose}{which} {how}{times}: {}", if what.is_empty() { "all" } else { &what })
        }
        Action::ApiStale {} => "the API server's watch cache stands still".to_owned(),
        Action::ApiWell {} => "the API server is well again".to_owned(),
        Action::PauseLeader {} => "the leading coordinator is stopped (SIGSTOP)".to_owned(),
        Action::WakeLeader {} => "the coordinator that was stopped goes on".to_owned(),
        Action::KillLeader {} => "the leading coordinator is killed, and started again".to_owned(),
        Action::KillSwitch { on: true } => {
            "the kill switch is thrown: ConfigMap nameward-policy says paused".to_owned()
        }
        Action::KillSwitch { on: false } => "the kill switch is released".to_owned(),
        Action::ForgeReports { node, pod } => format!("somebody with the token of {node}'s agent reports {pod} dead"),
        Action::ApiDown {} => "the API server resets every connection".to_owned(),
        Action::ApiUp {} => "the API server answers again".to_owned(),
    }
}
