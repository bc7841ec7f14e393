//! Faults in the API: objects changed and deleted past everybody's rights.

use serde_json::{Value, json};

use super::child::Failure;
use super::inject::Done;
use super::lift::Undo;
use super::world::World;
use crate::apiserver::Handle;
use crate::machinery::HELD;
use crate::scenario::Patch;

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
