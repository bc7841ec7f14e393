//! The store: objects, versions and the history that watches are served from.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use super::faults::Faults;
use super::json::{put, text};
use super::log::Journal;
use super::request::User;
use super::resources::{self, Resource, qualify};
use super::rights::Rights;
use super::schema;

/// Namespace (empty for cluster-scoped objects) and name.
pub(crate) type Key = (String, String);

/// One committed change.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) at: Instant,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    /// As it is now, or as it was last.
    pub(crate) object: Arc<Value>,
    pub(crate) gone: bool,
}

/// The objects of one resource.
#[derive(Debug, Default)]
struct Table {
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// Changes up to this version are no longer known.
    forgotten: u64,
}

/// Everything that is kept under the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) resources: BTreeMap<String, Arc<Resource>>,
    tables: BTreeMap<String, Table>,
    pub(crate) version: u64,
    /// The version of the latest change of what controllers look at.
    pub(crate) workloads: u64,
    pub(crate) random: fastrand::Rng,
    pub(crate) tokens: BTreeMap<String, User>,
    /// Tokens that were made for others than the API server, and for whom.
    pub(crate) foreign: BTreeMap<String, (User, Vec<String>)>,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) rights: Rights,
    window: usize,
}

impl State {
    pub(crate) fn new(seed: u64, window: usize, tokens: BTreeMap<String, User>) -> Self {
        let resources =
            resources::built_in().into_iter().map(|resource| (resource.qualified(), Arc::new(resource))).collect();
        Self {
            resources,
            tables: BTreeMap::new(),
            version: 0,
            workloads: 0,
            random: fastrand::Rng::with_seed(seed),
            tokens,
            foreign: BTreeMap::new(),
            faults: Faults::default(),
            journal: Journal::default(),
            rights: Rights::default(),
            window: window.max(1),
        }
    }

    /// The resource of a group and plural name, whatever its version.
    pub(crate) fn resource(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.resources.get(&qualify(plural, group)).cloned()
    }

    /// The resource of an object by its `apiVersion` and `kind`.
    pub(crate) fn resource_of(&self, object: &Value) -> Option<Arc<Resource>> {
        let (version, kind) = (text(object, &["apiVersion"]), text(object, &["kind"]));
        self.resources.values().find(|resource| resource.kind == kind && resource.api_version() == version).cloned()
    }

    /// The first resource of a kind. Of the two kinds of Event, the one in `events.k8s.io`.
    pub(crate) fn resource_of_kind(&self, kind: &str) -> Option<Arc<Resource>> {
        self.resources
            .values()
            .find(|resource| resource.kind == kind && (kind != "Event" || !resource.group.is_empty()))
            .cloned()
    }

    /// One object.
    pub(crate) fn get(&self, table: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.tables.get(table)?.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All objects of a resource in order of namespace and name.
    pub(crate) fn objects(&self, table: &str) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.tables.get(table).into_iter().flat_map(|table| table.objects.iter())
    }

    /// The objects as they were at a version, or `None` if that is no longer known.
    pub(crate) fn objects_at(&self, table: &str, version: u64) -> Option<BTreeMap<Key, Arc<Value>>> {
        let Some(table) = self.tables.get(table) else { return Some(BTreeMap::new()) };
        let mut objects = table.objects.clone();
        if version >= self.version {
            return Some(objects);
        }
        if version < table.forgotten {
            return None;
        }
        for change in table.history.iter().rev().take_while(|change| change.version > version) {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), before.clone()),
                None => objects.remove(&change.key),
            };
        }
        Some(objects)
    }

    /// Changes of a resource after `since`, oldest first; `None` if some of them are no longer known.
    pub(crate) fn changes_after(&self, table: &str, since: u64) -> Option<impl Iterator<Item = &Change> + use<'_>> {
        let table = self.tables.get(table);
        if table.is_some_and(|table| since < table.forgotten) {
            return None;
        }
        Some(table.into_iter().flat_map(move |table| {
            let start = table.history.partition_point(|change| change.version <= since);
            table.history.iter().skip(start)
        }))
    }

    /// Forgets the history of everything: older versions answer 410 from now on.
    pub(crate) fn compact(&mut self) {
        let version = self.version;
        for name in self.resources.keys() {
            let table = self.tables.entry(name.clone()).or_default();
            table.history.clear();
            table.forgotten = version;
        }
    }

    /// Stores an object (or removes it) and records the change. Gives the object as stored.
    pub(crate) fn commit(&mut self, resource: &Resource, mut object: Value, gone: bool, at: Instant) -> Arc<Value> {
        self.version += 1;
        let version = self.version;
        if !matches!(resource.plural.as_str(), "leases" | "nodeagents" | "dnsincidents" | "events") {
            self.workloads = version;
        }
        put(&mut object, &["metadata", "resourceVersion"], version.to_string());
        let key =
            (text(&object, &["metadata", "namespace"]).to_owned(), text(&object, &["metadata", "name"]).to_owned());
        let object = Arc::new(object);
        let table = self.tables.entry(resource.qualified()).or_default();
        let before = if gone { table.objects.remove(&key) } else { table.objects.insert(key.clone(), object.clone()) };
        table.history.push_back(Change { version, at, key, before, object: object.clone(), gone });
        while table.history.len() > self.window {
            if let Some(oldest) = table.history.pop_front() {
                table.forgotten = oldest.version;
            }
        }
        if resource.plural == "customresourcedefinitions"
            && let Some(served) = schema::resource_of(&object)
        {
            if gone {
                self.resources.remove(&served.qualified());
            } else {
                self.resources.insert(served.qualified(), Arc::new(served));
            }
        }
        object
    }

    /// A version 4 UUID from the seed.
    pub(crate) fn uid(&mut self) -> String {
        let high = self.random.u64(..);
        let low = self.random.u64(..);
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff
        )
    }

    /// Five characters from the alphabet of generated names.
    pub(crate) fn suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..5).map(|_| char::from(LETTERS[self.random.usize(..LETTERS.len())])).collect()
    }
}
