//! Validating admission policies: those in the store that have a binding which denies.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::cel::evaluate;
use super::json::{at, list, text};
use super::request::{Target, User};
use super::resources::Resource;
use super::state::State;
use super::status::{Outcome, Refusal};

const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";

/// A write on its way in.
pub(crate) struct Write<'w> {
    pub(crate) user: &'w User,
    pub(crate) resource: &'w Resource,
    pub(crate) target: &'w Target,
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub(crate) operation: &'static str,
    pub(crate) name: &'w str,
    /// Null for a deletion.
    pub(crate) new: &'w Value,
    /// Null for a creation.
    pub(crate) old: &'w Value,
}

/// Refuses a write that a policy denies.
pub(crate) fn admit(state: &State, write: &Write<'_>) -> Outcome<()> {
    let mut variables = None;
    for (key, binding) in state.objects(BINDINGS) {
        let name = text(binding, &["spec", "policyName"]);
        let denies = list(binding, &["spec", "validationActions"]).iter().any(|action| action == "Deny");
        let Some(policy) = state.get(POLICIES, "", name).filter(|_| denies) else { continue };
        if !concerns(policy, write) {
            continue;
        }
        let variables = variables.get_or_insert_with(|| variables_of(write));
        let (judged, message) = verdict(policy, variables);
        if judged {
            state.rights.judged(name, &write.resource.group, &concerned(write));
        }
        if let Some(message) = message {
            return Err(denial(
                write,
                &format!("ValidatingAdmissionPolicy '{name}' with binding '{}' denied request: {message}", key.1),
            ));
        }
    }
    Ok(())
}

fn denial(write: &Write<'_>, message: &str) -> Refusal {
    let resource = write.resource;
    let mut details = json!({"name": write.name, "kind": resource.plural, "causes": [{"message": message}]});
    if !resource.group.is_empty() {
        details["group"] = resource.group.clone().into();
    }
    let text = format!("{} {:?} is forbidden: {message}", resource.qualified(), write.name);
    Refusal::new(422, "Invalid", text, details)
}

fn variables_of(write: &Write<'_>) -> BTreeMap<&'static str, Value> {
    let user = json!({
        "username": write.user.name,
        "groups": write.user.all_groups(),
        "extra": write.user.extra,
    });
    let request = json!({
        "userInfo": user,
        "operation": write.operation,
        "name": write.name,
        "namespace": write.target.namespace,
        "subResource": write.target.subresource,
        "resource": {"group": write.resource.group, "version": write.resource.version, "resource": write.resource.plural},
    });
    BTreeMap::from([("request", request), ("object", write.new.clone()), ("oldObject", write.old.clone())])
}

/// As `pods/eviction`.
fn concerned(write: &Write<'_>) -> String {
    match write.target.subresource.as_str() {
        "" => write.resource.plural.clone(),
        subresource => format!("{}/{subresource}", write.resource.plural),
    }
}

fn concerns(policy: &Value, write: &Write<'_>) -> bool {
    let resource = concerned(write);
    let has = |rule: &Value, member: &str, wanted: &str| {
        list(rule, &[member]).iter().filter_map(Value::as_str).any(|found| found == "*" || found == wanted)
    };
    list(policy, &["spec", "matchConstraints", "resourceRules"]).iter().any(|rule| {
        let named = list(rule, &["resourceNames"]);
        has(rule, "operations", write.operation)
            && has(rule, "apiGroups", &write.resource.group)
            && has(rule, "apiVersions", &write.resource.version)
            && (has(rule, "resources", &resource) || has(rule, "resources", "*/*"))
            && (named.is_empty() || named.iter().any(|name| name == write.name))
    })
}

/// Whether the policy's conditions hold, and then the message of the first validation that fails.
fn verdict(policy: &Value, variables: &BTreeMap<&'static str, Value>) -> (bool, Option<String>) {
    let fails_closed = text(policy, &["spec", "failurePolicy"]) != "Ignore";
    let error = |error: String| fails_closed.then(|| format!("expression error: {error}"));
    for condition in list(policy, &["spec", "matchConditions"]) {
        match evaluate(text(condition, &["expression"]), variables) {
            Ok(Value::Bool(true)) => {}
            Ok(_) => return (false, None),
            Err(fault) => return (false, error(fault)),
        }
    }
    let mut variables = variables.clone();
    let mut named = serde_json::Map::new();
    for variable in list(policy, &["spec", "variables"]) {
        if let Ok(value) = evaluate(text(variable, &["expression"]), &variables) {
            named.insert(text(variable, &["name"]).to_owned(), value);
        }
        variables.insert("variables", Value::Object(named.clone()));
    }
    for validation in list(policy, &["spec", "validations"]) {
        let expression = text(validation, &["expression"]);
        match evaluate(expression, &variables) {
            Ok(Value::Bool(true)) => {}
            Ok(_) => {
                let message = at(validation, &["message"]).and_then(Value::as_str);
                return (true, Some(message.map_or_else(|| format!("failed expression: {expression}"), str::to_owned)));
            }
            Err(fault) => return (true, error(fault)),
        }
    }
    (true, None)
}
