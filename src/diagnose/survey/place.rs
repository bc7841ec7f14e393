//! From where to ask: as soon as that can be told.

use std::time::Duration;

use nameward_messages::Mono;
use nameward_messages::namespaces::{NamespaceChanged, Vantage};
use nameward_prober::actor::ProberMessage;
use nameward_supervision::clock;
use std::sync::Arc;

use super::super::subject::{Place, find};
use super::super::{alone, progress};
use super::{FINDING, FIRST_ANSWER, Looking, WHOSE, uid_of};
use crate::exit::Failure;

impl Looking<'_> {
    /// Finds out where to ask from, as soon as that can be told.
    pub(super) async fn settle_place(&mut self, began: Mono) -> Result<(), Failure> {
        if self.vantage.is_some() {
            return Ok(());
        }
        let now = clock::now().mono;
        let Some(synced) = self.synced else {
            if now.since(began) <= FIRST_ANSWER {
                return Ok(());
            }
            let server = self.api.clone().unwrap_or_default();
            let why = self.trouble.clone().unwrap_or_else(|| "no answer".to_owned());
            let within = FIRST_ANSWER.as_secs();
            return Err(Failure::could_not(
                format!(
                    "the pods of {} were not told by {server} within {within} s; check the credentials, their rights and \
                     kubernetes.node_name",
                    self.around.node
                ),
                why,
            ));
        };
        let waited = now.since(synced);
        let found = match self.place {
            Place::Host => Some(Vantage::Host),
            Place::Pod { namespace, name } => self.pod(namespace.as_deref(), name, waited)?,
            Place::File { path, cookie } => match self.namespaces.values().find(|n| n.cookie == *cookie) {
                Some(namespace) => Some(nameward_prober::paths::vantage(namespace)),
                None if waited < WHOSE && self.api.is_ok() => None,
                None => {
                    let namespace = alone::by_file(self.around, path, *cookie).await;
                    self.notes.push(format!("no pod of {} is known to own {}", self.around.node, path.display()));
                    let vantage = nameward_prober::paths::vantage(&namespace);
                    self.take_namespace(NamespaceChanged::Found(namespace));
                    Some(vantage)
                }
            },
        };
        let Some(vantage) = found else { return Ok(()) };
        let whom = match &vantage {
            Vantage::Host => self.around.node.to_string(),
            Vantage::Pod { key, .. } => key.to_string(),
        };
        progress(&format!("asking from {whom} in every way, and reading twice"));
        if self.api.is_err() {
            let namespace = uid_of(&vantage).and_then(|uid| self.namespaces.get(uid));
            let targets = Arc::new(alone::targets(namespace));
            self.targets = Arc::clone(&targets);
            self.prober.tell(ProberMessage::Targets(targets));
        }
        self.vantage = Some(vantage);
        self.choose();
        self.placed = now;
        Ok(())
    }

    fn pod(&mut self, namespace: Option<&str>, name: &str, waited: Duration) -> Result<Option<Vantage>, Failure> {
        let pod = find(self.pods.values(), namespace, name, &self.around.node)?;
        self.pod = Some(pod.uid.clone());
        let (key, node) = (pod.key.clone(), self.around.node.clone());
        if pod.host_network {
            self.notes.push(format!("{key} is on the host's network: it is asked from the node itself"));
            return Ok(Some(Vantage::Host));
        }
        if let Some(namespace) = self.namespaces.get(&pod.uid) {
            return Ok(Some(nameward_prober::paths::vantage(namespace)));
        }
        let not_now = [
            (
                pod.ignored,
                "it or its namespace is annotated nameward.dev/ignore; name its network namespace's file instead",
            ),
            (pod.terminating, "it is ending"),
        ];
        if let Some((_, why)) = not_now.iter().find(|(is, _)| *is) {
            return Err(Failure::could_not(format!("{key} is not asked from"), *why));
        }
        if waited < FINDING {
            return Ok(None);
        }
        let config = &self.around.config.netns;
        let why = if pod.running { "no source names it" } else { "the pod does not run yet" };
        Err(Failure::could_not(
            format!(
                "the network namespace of {key} was not found on {node}; looked in {} and {}; set netns.cni_results and netns.folders, \
                 or name its file",
                config.cni_results.display(),
                config.folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
            ),
            why,
        ))
    }
}
