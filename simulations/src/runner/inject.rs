//! Faults, as a scenario names them, done to the world.

use std::sync::Arc;

use super::child::Failure;
use super::world::World;
use crate::apiserver::{Handle, Outage};
use crate::lab::NetFault;
use crate::scenario::Action;

/// Does it; gives back what was done, as a person would do it.
pub(super) async fn inject(world: &Arc<World>, api: &Handle, action: &Action) -> Result<Vec<String>, Failure> {
    let (world, api, action) = (Arc::clone(world), api.clone(), action.clone());
    let work = move || -> Result<Vec<String>, Failure> {
        let network = |fault| Ok(world.inject(fault)?);
        match action {
            Action::Dns { pod, command } => {
                world.tell(&pod, &command.parse()?)?;
                Ok(Vec::new())
            }
            Action::Hang { pod } => {
                world.hang(&pod)?;
                Ok(Vec::new())
            }
            Action::MemoryDemand { bytes } => {
                world.demand(bytes.0);
                Ok(Vec::new())
            }
            Action::StopUpstream {} => {
                world.stop_upstream();
                Ok(Vec::new())
            }
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
                Ok(vec!["kubectl -n kube-system rollout restart deployment coredns".to_owned()])
            }
            Action::ApiDown {} => {
                api.outage(Outage::Reset);
                Ok(Vec::new())
            }
            Action::ApiUp {} => {
                api.outage(Outage::None);
                Ok(Vec::new())
            }
        }
    };
    tokio::task::spawn_blocking(work).await?
}

/// What happens, for the timeline.
pub(super) fn describe(action: &Action) -> String {
    match action {
        Action::Dns { pod, command } => match command.as_str() {
            "udp close" => format!("{pod} closes its UDP socket; TCP and /health go on answering"),
            "udp stuck" => format!("{pod} stops reading its UDP socket; TCP and /health go on answering"),
            other => format!("{pod} is told `{other}`"),
        },
        Action::Hang { pod } => format!("{pod} hangs (SIGSTOP)"),
        Action::MemoryDemand { bytes } => format!("every CoreDNS process needs {bytes} from now on"),
        Action::FlushServiceRules { node } => format!("kube-proxy's service rules vanish on {node}"),
        Action::DeleteDefaultRoute { pod } => format!("{pod} loses its default route"),
        Action::DetachVeth { pod } => format!("the veth of {pod} is taken off its bridge"),
        Action::ForwardDrop { node } => format!("the FORWARD policy of {node} becomes DROP"),
        Action::WrongNameserver { pod, nameserver } => format!("resolv.conf of {pod} names {nameserver}"),
        Action::StopUpstream {} => "the upstream resolver stops".to_owned(),
        Action::RollingUpdate {} => "CoreDNS is rolled".to_owned(),
        Action::ApiDown {} => "the API server resets every connection".to_owned(),
        Action::ApiUp {} => "the API server answers again".to_owned(),
    }
}
