//! What one watch holds: reset by a complete list, moved by increments.

use std::collections::BTreeMap;
use std::sync::Arc;

use nameward_cluster::wire::Object;

use crate::input::Snapshot;

/// The key of an object: its name, with its namespace if it has one.
#[must_use]
pub fn key<T: Object>(object: &T) -> String {
    let meta = object.meta();
    if meta.namespace.is_empty() { meta.name.clone() } else { format!("{}/{}", meta.namespace, meta.name) }
}

/// The objects of one watch by key. Snapshots share its content until it changes.
#[derive(Debug)]
pub struct Store<T> {
    objects: Snapshot<T>,
    /// A list under way; it replaces the content when it is complete, and not before.
    listing: Option<BTreeMap<String, Arc<T>>>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { objects: Arc::default(), listing: None }
    }
}

impl<T> Store<T> {
    /// A list begins. One that was under way is forgotten.
    pub fn begin(&mut self) {
        self.listing = Some(BTreeMap::new());
    }

    /// One object of the list.
    pub fn listed(&mut self, key: String, object: T) {
        self.listing.get_or_insert_default().insert(key, Arc::new(object));
    }

    /// The list is complete: it is what there is.
    pub fn complete(&mut self) -> Snapshot<T> {
        self.objects = Arc::new(self.listing.take().unwrap_or_default());
        self.objects.clone()
    }

    /// An object appeared or changed.
    pub fn apply(&mut self, key: String, object: T) -> Snapshot<T> {
        Arc::make_mut(&mut self.objects).insert(key, Arc::new(object));
        self.objects.clone()
    }

    /// An object is gone.
    pub fn delete(&mut self, key: &str) -> Snapshot<T> {
        Arc::make_mut(&mut self.objects).remove(key);
        self.objects.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Reset(Vec<(u8, u32)>),
        /// A list that breaks off.
        Broken(Vec<(u8, u32)>),
        Apply(u8, u32),
        Delete(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let objects = || prop::collection::vec((0u8..6, any::<u32>()), 0..6);
        prop_oneof![
            objects().prop_map(Step::Reset),
            objects().prop_map(Step::Broken),
            (0u8..6, any::<u32>()).prop_map(|(key, value)| Step::Apply(key, value)),
            (0u8..6).prop_map(Step::Delete),
        ]
    }

    proptest! {
        #[test]
        fn any_interleaving_is_a_plain_map(steps in prop::collection::vec(step(), 0..40)) {
            let mut store: Store<u32> = Store::default();
            let mut plain: BTreeMap<String, u32> = BTreeMap::new();
            let mut last: Snapshot<u32> = Arc::default();
            for step in steps {
                match step {
                    Step::Reset(objects) => {
                        store.begin();
                        for (key, value) in &objects {
                            store.listed(key.to_string(), *value);
                        }
                        last = store.complete();
                        plain = objects.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
                    }
                    Step::Broken(objects) => {
                        store.begin();
                        for (key, value) in objects {
                            store.listed(key.to_string(), value);
                        }
                    }
                    Step::Apply(key, value) => {
                        last = store.apply(key.to_string(), value);
                        plain.insert(key.to_string(), value);
                    }
                    Step::Delete(key) => {
                        last = store.delete(&key.to_string());
                        plain.remove(&key.to_string());
                    }
                }
                let held: BTreeMap<String, u32> = last.iter().map(|(key, value)| (key.clone(), **value)).collect();
                prop_assert_eq!(&held, &plain);
            }
        }
    }
}
