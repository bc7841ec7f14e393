//! Faults in the API: objects changed and deleted past everybody's rights.

use nameward_messages::plan::{IncidentPhase, IncidentSpec, IncidentStatus};
use nameward_messages::verdict::{Cause, Scope, Subject};
use nameward_messages::{ObjectKey, PodUid};
use serde_json::{Value, json};

use super::child::Failure;
use super::inject::Done;
use super::lift::Undo;
use super::world::World;
use crate::apiserver::Handle;
use crate::machinery::HELD;
use crate::scenario::Patch;

/// The last octet of an address that the lab gives to no pod.
const GONE: u8 = 250;

/// An object as a scenario names it.
pub(super) struct Target {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name, or how scenarios call it.
    pub name: String,
}

impl Target {
    /// Finds it.
    fn find(&self, world: &World, api: &Handle) -> Result<(String, String, Value), Failure> {
        let (mut namespace, mut name) = (self.namespace.clone(), self.name.clone());
        if self.kind == "Pod" && name.contains('@') {
            let key = world.key(&name)?;
            let (space, plain) = key.split_once('/').unwrap_or(("", &key));
            (namespace, name) = (space.to_owned(), plain.to_owned());
        }
        if self.kind == "EndpointSlice" && api.get(&self.kind, &namespace, &name).is_none() {
            let of_service = api.list(&self.kind, &namespace, &format!("kubernetes.io/service-name={name}"));
            if let Some(found) = of_service.first().and_then(|slice| slice["metadata"]["name"].as_str()) {
                found.clone_into(&mut name);
            }
        }
        match api.get(&self.kind, &namespace, &name) {
            Some(object) => Ok((namespace, name, object)),
            None => Err(format!("there is no {} {}", self.kind, self.name).into()),
        }
    }
}

/// Patches an object; gives back how to patch it back.
pub(super) fn patch(
    world: &World,
    api: &Handle,
    target: &Target,
    patch: &Patch,
    hold: Option<bool>,
) -> Result<Done, Failure> {
    let (namespace, name, old) = target.find(world, api)?;
    let mut patch = patch.json()?;
    expand(world, &mut patch)?;
    let did = vec![format!("kubectl patch {} {name} --type merge -p '{patch}'", target.kind.to_lowercase())];
    if hold.unwrap_or(patch.get("status").is_some() || target.kind == "EndpointSlice") {
        // Indexing makes the objects on the way.
        patch["metadata"]["annotations"][HELD] = json!("true");
    }
    let back = inverse(&old, &patch);
    api.patch(&target.kind, &namespace, &name, patch)?;
    Ok(Done { did, undo: Undo::Patch { of: [target.kind.clone(), namespace, name], patch: back } })
}

/// The policy ConfigMap as a person makes it to stop every change, and deletes it to go on.
pub(super) fn kill_switch(api: &Handle, on: bool) -> Result<Done, Failure> {
    let (kind, namespace, name) = ("ConfigMap", "nameward", "nameward-policy");
    let stands = api.get(kind, namespace, name).is_some();
    let (did, undo) = match on {
        true => ("create configmap nameward-policy --from-literal=paused=true", Undo::KillSwitch),
        false => ("delete configmap nameward-policy", Undo::Nothing),
    };
    if on && !stands {
        api.create(json!({
            "apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "data": {"paused": "true"},
        }))?;
    } else if !on && stands {
        api.delete(kind, namespace, name)?;
    }
    Ok(Done { did: vec![format!("kubectl -n {namespace} {did}")], undo })
}

/// An incident that was resolved eight days ago: a day longer than incidents are kept.
pub(super) fn old_incident(api: &Handle) -> Result<(), Failure> {
    let closed = api.now().checked_sub(jiff::SignedDuration::from_hours(8 * 24))?;
    let subject = Subject::pod(&ObjectKey::new("kube-system", "coredns-long-gone"), &PodUid("long-gone".to_owned()));
    let spec = IncidentSpec { cause: Cause::CorednsUdpDead, scope: Scope::CorednsPod, subject };
    let status = IncidentStatus {
        phase: IncidentPhase::Resolved,
        summary: "DNS recovered".to_owned(),
        opened_at: Some(closed),
        closed_at: Some(closed),
        ..IncidentStatus::default()
    };
    api.create(json!({
        "apiVersion": "nameward.dev/v1alpha1", "kind": "DnsIncident", "metadata": {"name": "long-ago"},
        "spec": serde_json::to_value(spec)?, "status": serde_json::to_value(status)?,
    }))?;
    Ok(())
}

/// What stays of a pod that its kubelet evicts for want of memory (`pkg/kubelet/eviction/eviction_manager.go`): the object, which
/// nobody deletes. The kernel killed its process first, and nobody has its address any more.
pub(super) fn leave_evicted(world: &World, api: &Handle, beside: &str) -> Result<Done, Failure> {
    let target = Target { kind: "Pod".to_owned(), namespace: String::new(), name: beside.to_owned() };
    let (namespace, name, mut pod) = target.find(world, api)?;
    let now = crate::apiserver::stamp(api.now());
    let (left, ip) = (format!("{name}-evicted"), world.address(&format!("{namespace}/{name}"))?);
    let [a, b, c, _] = ip.octets();
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        for system in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
            metadata.remove(system);
        }
        metadata.insert("name".to_owned(), left.as_str().into());
    }
    let condition = |kind: &str, status: &str, reason: &str| {
        let (never, now) = (Value::Null, &now);
        json!({"type": kind, "status": status, "reason": reason, "lastProbeTime": never, "lastTransitionTime": now})
    };
    let container = &pod["spec"]["containers"][0]["name"];
    let ip = std::net::Ipv4Addr::new(a, b, c, GONE).to_string();
    pod["status"] = json!({
        "phase": "Failed", "reason": "Evicted", "startTime": now,
        "message": format!("The node was low on resource: memory. Container {} was using 190Mi", container.as_str().unwrap_or_default()),
        "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [
            condition("DisruptionTarget", "True", "TerminationByKubelet"), condition("Ready", "False", "PodFailed"),
            condition("ContainersReady", "False", "PodFailed"), condition("Initialized", "True", ""),
            condition("PodScheduled", "True", ""),
        ],
        "containerStatuses": [{
            "name": container, "ready": false, "started": false, "restartCount": 3, "image": "", "imageID": "", "lastState": {},
            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": now, "finishedAt": now}},
        }],
    });
    api.create(pod)?;
    let did = vec![format!("the kubelet evicts {namespace}/{left}, which had {ip}")];
    Ok(Done { did, undo: Undo::Delete(["Pod".to_owned(), namespace, left]) })
}

/// Deletes an object; gives back how to make it again.
pub(super) fn delete(world: &World, api: &Handle, target: &Target) -> Result<Done, Failure> {
    let (namespace, name, mut old) = target.find(world, api)?;
    let did = vec![format!("kubectl delete {} {name}", target.kind.to_lowercase())];
    api.delete(&target.kind, &namespace, &name)?;
    if target.kind == "Pod" {
        return Ok(Done { did, undo: Undo::Nothing });
    }
    if let Some(metadata) = old["metadata"].as_object_mut() {
        for system in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
            metadata.remove(system);
        }
    }
    Ok(Done { did, undo: Undo::Create(Box::new(old)) })
}

fn expand(world: &World, value: &mut Value) -> Result<(), Failure> {
    match value {
        Value::String(text) => {
            *text = world.expand(text)?.0;
            Ok(())
        }
        Value::Array(all) => all.iter_mut().try_for_each(|one| expand(world, one)),
        Value::Object(all) => all.values_mut().try_for_each(|one| expand(world, one)),
        _ => Ok(()),
    }
}

/// The merge patch that takes `patch` back from an object that was `old`.
fn inverse(old: &Value, patch: &Value) -> Value {
    let Some(members) = patch.as_object() else { return old.clone() };
    let back = members.iter().map(|(name, new)| {
        let was = old.get(name);
        let back = match was {
            Some(was) if was.is_object() && new.is_object() => inverse(was, new),
            Some(was) => was.clone(),
            None => Value::Null,
        };
        (name.clone(), back)
    });
    Value::Object(back.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_taken_back_and_nothing_else_is() {
        let old = json!({"spec": {"replicas": 2, "selector": {"a": "b"}}, "status": {"x": [1]}});
        let patch = json!({"spec": {"replicas": 0, "selector": null}, "status": {"x": [2], "y": {"z": 1}}});
        assert_eq!(
            inverse(&old, &patch),
            json!({"spec": {"replicas": 2, "selector": {"a": "b"}}, "status": {"x": [1], "y": null}})
        );
    }
}
