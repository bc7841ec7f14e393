//! JSON merge patch, strategic merge patch and JSON patch.

use serde_json::{Map, Value};

use super::shape::Shape;
use super::status::Refusal;

/// RFC 7396.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// A strategic merge patch: as a merge patch, but lists with a merge key merge item by item.
pub(crate) fn strategic(target: &mut Value, patch: &Value, shape: Shape<'_>) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if patch.get("$patch").and_then(Value::as_str) == Some("replace") {
        let mut whole = patch.clone();
        whole.remove("$patch");
        *target = Value::Object(whole);
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if name.starts_with('$') {
            continue;
        }
        let inner = shape.member(name);
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Array(items) => {
                let list = target.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                match inner.strategic() {
                    Some(key) => strategic_list(list, items, key, inner.item()),
                    None => *list = value.clone(),
                }
            }
            _ => strategic(target.entry(name.clone()).or_insert(Value::Null), value, inner),
        }
    }
}

/// New items stand before the old ones, as recorded of a node's conditions.
fn strategic_list(list: &mut Value, patch: &[Value], key: &str, shape: Shape<'_>) {
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    let Some(items) = list.as_array_mut() else { return };
    let mut fresh = Vec::new();
    for item in patch {
        let found = items.iter().position(|old| old.get(key) == item.get(key));
        match (item.get("$patch").and_then(Value::as_str), found) {
            (Some("delete"), Some(at)) => {
                items.remove(at);
            }
            (Some("delete"), None) => {}
            (_, Some(at)) => strategic(&mut items[at], item, shape),
            (_, None) => {
                let mut new = Value::Null;
                strategic(&mut new, item, shape);
                fresh.push(new);
            }
        }
    }
    fresh.append(items);
    *items = fresh;
}

/// RFC 6902. Any operation that does not hold refuses the whole patch.
pub(crate) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let refused = || {
        Refusal::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
            Value::Object(Map::new()),
        )
    };
    let operations = patch.as_array().ok_or_else(|| Refusal::bad_request("a JSON patch is a list of operations"))?;
    for operation in operations {
        let word = |name: &str| operation.get(name).and_then(Value::as_str);
        let path = word("path").ok_or_else(refused)?;
        let value = || operation.get("value").cloned().ok_or_else(refused);
        let from = || word("from").ok_or_else(refused);
        match word("op").ok_or_else(refused)? {
            "test" => {
                if target.pointer(path) != Some(&value()?) {
                    return Err(refused());
                }
            }
            "add" => add(target, path, value()?).ok_or_else(refused)?,
            "remove" => {
                remove(target, path).ok_or_else(refused)?;
            }
            "replace" => *target.pointer_mut(path).ok_or_else(refused)? = value()?,
            "move" => {
                let moved = remove(target, from()?).ok_or_else(refused)?;
                add(target, path, moved).ok_or_else(refused)?;
            }
            "copy" => {
                let copied = target.pointer(from()?).cloned().ok_or_else(refused)?;
                add(target, path, copied).ok_or_else(refused)?;
            }
            _ => return Err(refused()),
        }
    }
    Ok(())
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *target = value;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at: usize = last.parse().ok()?;
            if at > items.len() {
                return None;
            }
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(target: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(map) => map.remove(&last),
        Value::Array(items) => {
            let at: usize = last.parse().ok()?;
            (at < items.len()).then(|| items.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strategic_keeps_what_it_does_not_name() {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]},
                                                     {"name": "b", "image": "y"}]}});
        let patch = json!({"spec": {"containers": [{"name": "a", "env": [{"name": "F", "value": "2"}]}]}});
        strategic(&mut pod, &patch, Shape::root("Pod", None));
        assert_eq!(pod["spec"]["containers"][0]["image"], "x");
        assert_eq!(pod["spec"]["containers"][0]["env"].as_array().unwrap().len(), 2);
        assert_eq!(pod["spec"]["containers"][1]["name"], "b");
    }

    #[test]
    fn json_patch_is_all_or_nothing_to_the_caller() {
        let mut value = json!({"a": [1, 2], "b": {"c/d": 1}});
        let patch = json!([{"op": "add", "path": "/a/-", "value": 3}, {"op": "replace", "path": "/b/c~1d", "value": 2},
                           {"op": "move", "from": "/b", "path": "/e"}, {"op": "remove", "path": "/a/0"}]);
        json_patch(&mut value, &patch).unwrap();
        assert_eq!(value, json!({"a": [2, 3], "e": {"c/d": 2}}));
        assert_eq!(json_patch(&mut value, &json!([{"op": "test", "path": "/a", "value": 1}])).unwrap_err().code, 422);
    }
}
