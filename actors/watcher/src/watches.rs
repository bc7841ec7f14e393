//! The watches: one future each, on the worker threads.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use http::Request;
use kube::client::Body;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_stream};
use kube::{Api, Client};
use nameward_cluster::watched::{Kind, Watched};
use nameward_supervision::Outlet;
use serde::de::DeserializeOwned;

use crate::actor::WatcherMessage;
use crate::input::{Input, Link, Snapshot, Watch};
use crate::store::{Store, key};

/// How a watch is set up.
pub(crate) struct Plan<W> {
    pub(crate) watch: Watch,
    pub(crate) api: fn(Client, &str) -> Api<Watched<W>>,
    /// The namespace, for `api`; empty: all, or cluster-scoped.
    pub(crate) namespace: String,
    pub(crate) config: watcher::Config,
    pub(crate) input: fn(Snapshot<W>) -> Input,
}

/// What is known of one watch. Snapshot and link are told together, so that merging two messages loses neither.
struct News {
    watch: Watch,
    latest: Mutex<(Option<Input>, Link)>,
    to: Outlet<WatcherMessage>,
}

impl News {
    fn tell(&self, change: impl FnOnce(&mut (Option<Input>, Link)) -> bool) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut latest) {
            let (input, link) = latest.clone();
            // A merged message is replaced by a newer one of the same content; the inbox has room for one per watch.
            self.to.tell(WatcherMessage::News { watch: self.watch, input: input.map(Box::new), link });
        }
    }

    fn link(&self, link: Link) {
        self.tell(|latest| {
            let changed = latest.1 != link;
            latest.1 = link;
            changed
        });
    }
}

/// Follows one watch for ever: first list, increments, reconnects, and a new list when the server has forgotten ours.
pub(crate) async fn follow<W>(plan: Plan<W>, client: Client, to: Outlet<WatcherMessage>)
where
    W: Kind + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let Plan { watch, api, namespace, config, input } = plan;
    // Until the first answer it is not lost but not there yet; `synced` tells the two apart.
    let news = Arc::new(News { watch, latest: Mutex::new((None, Link::Good)), to });
    let heard = news.clone();
    let client = noticing(client, move || heard.link(Link::Good));
    let mut store: Store<W> = Store::default();
    let mut events = watch_stream(api(client, &namespace), config).default_backoff().boxed();
    loop {
        let snapshot = match events.try_next().await {
            Ok(Some(Event::Init)) => {
                store.begin();
                continue;
            }
            Ok(Some(Event::InitApply(listed))) => {
                store.listed(key(&listed.object), listed.object);
                continue;
            }
            Ok(Some(Event::InitDone)) => store.complete(),
            Ok(Some(Event::Apply(changed))) => store.apply(key(&changed.object), changed.object),
            Ok(Some(Event::Delete(gone))) => store.delete(&key(&gone.object)),
            Ok(None) => break,
            Err(error) => {
                if !forgotten(&error) {
                    tracing::debug!(%watch, %error, "a watch broke off");
                    news.link(Link::Lost(why(&error)));
                }
                continue;
            }
        };
        news.tell(|latest| {
            *latest = (Some(input(snapshot)), Link::Good);
            true
        });
    }
}

/// 410: our place in the history is gone; the list that follows at once repairs it.
fn forgotten(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

/// The reason, short: what the server said, or the innermost cause.
fn why(error: &watcher::Error) -> String {
    let mut at: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(kube::Error::Api(status)) = at.downcast_ref::<kube::Error>() {
            return format!("{} {}", status.code, status.message);
        }
        match at.source() {
            Some(source) => at = source,
            None => return at.to_string(),
        }
    }
}

/// The same client, which says when the server accepts a request. kube's watcher is silent about a watch that stands
/// again, until something changes.
fn noticing(client: Client, accepted: impl Fn() + Clone + Send + Sync + 'static) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, accepted) = (client.clone(), accepted.clone());
        async move {
            let answer = client.send(request).await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                accepted();
            }
            answer
        }
    });
    Client::new(service, namespace)
}
