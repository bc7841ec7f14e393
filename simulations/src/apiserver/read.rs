//! Get and list.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};

use super::call::Call;
use super::faults::Stale;
use super::json::{put, take};
use super::resources::Resource;
use super::selector::{Fields, Labels};
use super::state::{Key, State};
use super::status::{Outcome, Refusal};

/// Which objects of a resource.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) fields: Fields,
}

impl Selection {
    pub(crate) fn of(call: &Call<'_>) -> Outcome<Self> {
        Ok(Self {
            namespace: call.target.namespace.clone(),
            name: call.target.name.clone(),
            labels: Labels::parse(call.request.param("labelSelector"))?,
            fields: Fields::parse(&call.resource, call.request.param("fieldSelector"))?,
        })
    }

    /// Whether everything in the namespace is meant.
    fn everything(&self, call: &Call<'_>) -> bool {
        call.request.param("labelSelector").is_empty() && call.request.param("fieldSelector").is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let metadata = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        (self.namespace.is_empty() || metadata("namespace") == self.namespace)
            && (self.name.is_empty() || metadata("name") == self.name)
            && self.labels.matches(object)
            && self.fields.matches(object)
    }
}

/// The version that a cached read sees.
pub(crate) fn cached_version(state: &State) -> u64 {
    state.faults.frozen.filter(|_| state.faults.stale != Stale::None).unwrap_or(state.version)
}

/// One object, as it is now (or was where reads stand still).
pub(crate) fn get(state: &State, call: &Call<'_>) -> Outcome<Arc<Value>> {
    let (table, target) = (call.resource.qualified(), call.target);
    let found = if !call.request.inside
        && (state.faults.stale == Stale::Reads
            || (state.faults.stale == Stale::Cache && call.request.param("resourceVersion") == "0"))
    {
        state
            .objects_at(&table, cached_version(state))
            .and_then(|objects| objects.get(&(target.namespace.clone(), target.name.clone())).cloned())
    } else {
        state.get(&table, &target.namespace, &target.name).cloned()
    };
    found.ok_or_else(|| Refusal::not_found(&call.resource, &target.name))
}

/// A version in a query.
pub(crate) fn parse_version(text: &str) -> Outcome<u64> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        Refusal::internal(format!("resourceVersion: Invalid value: {text:?}: {why}"))
    })
}

/// A version that lies ahead.
fn too_large(wanted: u64, current: u64) -> Refusal {
    let message = format!("Too large resource version: {wanted}, current: {current}");
    let mut refusal = Refusal::new(
        504,
        "Timeout",
        message,
        json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
               "retryAfterSeconds": 1}),
    );
    refusal.retry_after = Some(1);
    refusal
}

/// A list, with paging.
pub(crate) fn list(state: &State, call: &Call<'_>) -> Outcome<Value> {
    let selection = Selection::of(call)?;
    let request = call.request;
    let wanted = parse_version(request.param("resourceVersion"))?;
    let mut limit: usize = request.param("limit").parse().unwrap_or(0);
    let token = request.param("continue");
    let current =
        if state.faults.stale == Stale::Reads && !request.inside { cached_version(state) } else { state.version };
    let (version, start) = if token.is_empty() {
        if wanted > current {
            return Err(too_large(wanted, current));
        }
        let exact = request.param("resourceVersionMatch") == "Exact"
            || (limit > 0 && wanted > 0 && request.param("resourceVersionMatch").is_empty());
        let version = match (exact, request.param("resourceVersion")) {
            (true, _) => wanted,
            (false, "0") => {
                // Served from the cache, which knows no pages.
                limit = 0;
                cached_version(state)
            }
            (false, _) => current,
        };
        (version, None)
    } else {
        let (version, start) = read_token(token)?;
        (version, Some(start))
    };
    let Some(objects) = state.objects_at(&call.resource.qualified(), version) else {
        return Err(if token.is_empty() {
            Refusal::expired("The resourceVersion for the provided list is too old.")
        } else {
            Refusal::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new \
                 list without the continue parameter.",
            )
        });
    };
    Ok(page(call, &selection, &objects, version, start.as_ref(), limit))
}

fn page(
    call: &Call<'_>,
    selection: &Selection,
    objects: &BTreeMap<Key, Arc<Value>>,
    version: u64,
    start: Option<&Key>,
    limit: usize,
) -> Value {
    let mut matching = objects
        .iter()
        .filter(|(key, _)| start.is_none_or(|start| *key > start))
        .filter(|(_, object)| selection.matches(object))
        .peekable();
    let mut items = Vec::new();
    let mut last = None;
    while let Some((key, object)) = matching.next_if(|_| limit == 0 || items.len() < limit) {
        items.push(listed(&call.resource, object));
        last = Some(key);
    }
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), version.to_string().into());
    if call.resource.custom() {
        metadata.insert("continue".into(), "".into());
    }
    if let (Some(last), true) = (last, matching.peek().is_some()) {
        metadata.insert("continue".into(), write_token(version, last).into());
        if selection.everything(call) {
            metadata.insert("remainingItemCount".into(), matching.count().into());
        }
    }
    json!({
        "kind": format!("{}List", call.resource.kind),
        "apiVersion": call.resource.api_version(),
        "metadata": metadata,
        "items": items,
    })
}

/// An object as an item of a list: built-in kinds leave out what the list says already.
fn listed(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    if !resource.custom() {
        take(&mut object, &["kind"]);
        take(&mut object, &["apiVersion"]);
    }
    object
}

/// Only the metadata of an object or a list.
pub(crate) fn metadata_only(body: Value) -> Value {
    let Value::Object(mut map) = body else { return body };
    match map.remove("items") {
        Some(Value::Array(items)) => {
            map.insert("items".into(), items.into_iter().map(metadata_only).collect());
            map.insert("kind".into(), "PartialObjectMetadataList".into());
            map.insert("apiVersion".into(), "meta.k8s.io/v1".into());
            Value::Object(map)
        }
        _ => {
            let mut body = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"});
            put(&mut body, &["metadata"], map.remove("metadata").unwrap_or_else(|| json!({})));
            body
        }
    }
}

fn write_token(version: u64, last: &Key) -> String {
    let start = if last.0.is_empty() { format!("/{}\0", last.1) } else { format!("/{}/{}\0", last.0, last.1) };
    BASE64URL_NOPAD.encode(json!({"v": "meta.k8s.io/v1", "rv": version, "start": start}).to_string().as_bytes())
}

fn read_token(token: &str) -> Outcome<(u64, Key)> {
    let fault = |why: String| Refusal::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    // Go's decoder does not look at trailing bits.
    let mut encoding = BASE64URL_NOPAD.specification();
    encoding.check_trailing_bits = false;
    let encoding = encoding.encoding().map_err(|error| Refusal::internal(error.to_string()))?;
    let bytes = encoding
        .decode(token.trim_end_matches('=').as_bytes())
        .map_err(|error| fault(format!("illegal base64 data at input byte {}", error.position)))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        fault(match bytes.first() {
            Some(byte) if *byte != b'{' => {
                let character =
                    if byte.is_ascii_graphic() { char::from(*byte).to_string() } else { format!("\\x{byte:02x}") };
                format!("invalid character '{character}' looking for beginning of value")
            }
            _ => error.to_string(),
        })
    })?;
    let start = value["start"].as_str().unwrap_or_default().trim_start_matches('/').trim_end_matches('\0');
    let key = match start.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (String::new(), start.to_owned()),
    };
    Ok((value["rv"].as_u64().unwrap_or(0), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_return() {
        let key = ("default".to_owned(), "client-qt7pp".to_owned());
        assert_eq!(read_token(&write_token(873, &key)).unwrap(), (873, key));
        let fault = read_token("garbage").unwrap_err();
        assert!(fault.message().contains("invalid character '\\x81' looking"), "{}", fault.message());
    }
}
