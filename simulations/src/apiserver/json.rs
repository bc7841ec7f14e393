//! Small helpers over JSON objects.

use serde_json::{Map, Value};

/// The string at a path of member names, or `""`.
pub(crate) fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at a path of member names.
pub(crate) fn int(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path).and_then(Value::as_i64)
}

/// The array at a path of member names, empty if there is none.
pub(crate) fn list<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The value at a path of member names.
pub(crate) fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |here, name| here.get(name))
}

/// The object here; anything else is replaced by an empty one.
pub(crate) fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Sets the value at a path, making objects on the way.
pub(crate) fn put(value: &mut Value, path: &[&str], new: impl Into<Value>) {
    let Some((last, way)) = path.split_last() else {
        *value = new.into();
        return;
    };
    let mut here = value;
    for name in way {
        here = object(here).entry((*name).to_owned()).or_insert_with(|| Value::Object(Map::new()));
    }
    object(here).insert((*last).to_owned(), new.into());
}

/// Removes the value at a path.
pub(crate) fn take(value: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, way) = path.split_last()?;
    let mut here = value;
    for name in way {
        here = here.get_mut(name)?;
    }
    here.as_object_mut()?.remove(*last)
}

/// Sets or removes, so that null never stays.
pub(crate) fn put_or_take(value: &mut Value, path: &[&str], new: Option<Value>) {
    match new {
        Some(new) => put(value, path, new),
        None => {
            take(value, path);
        }
    }
}

/// Go's `%v` of decoded JSON, which messages of the API server contain.
pub(crate) fn go_format(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_format).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut names: Vec<&String> = map.keys().collect();
            names.sort();
            let parts: Vec<String> =
                names.iter().map(|name| format!("{name}:{}", go_format(&map[name.as_str()]))).collect();
            format!("map[{}]", parts.join(" "))
        }
        other => other.to_string(),
    }
}
