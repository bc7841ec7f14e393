//! Whom it is about: a pod by its name, a namespace by its file, or the node.

use std::path::{Path, PathBuf};

use nameward_kernel::enter::{EnterError, EnterPool, Netns};
use nameward_messages::pods::LocalPod;
use nameward_messages::{NetnsCookie, NodeName, ObjectKey};

use crate::exit::Failure;

/// Names that are offered when none is right.
const NEAREST: usize = 5;

/// What the person named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Host,
    Pod { namespace: Option<String>, name: String },
    Path(PathBuf),
}

/// The same, looked at.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Host,
    Pod {
        namespace: Option<String>,
        name: String,
    },
    /// A namespace by its file, with its identity.
    File {
        path: PathBuf,
        cookie: NetnsCookie,
    },
}

impl Wanted {
    /// `None` is the host. What begins as a path is one; anything else is a pod.
    pub(super) fn parse(subject: Option<&str>) -> Result<Self, Failure> {
        let Some(text) = subject else { return Ok(Self::Host) };
        if text.starts_with(['/', '.']) {
            return Ok(Self::Path(text.into()));
        }
        let good = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        };
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        if good(name) && namespace.is_none_or(good) {
            return Ok(Self::Pod { namespace: namespace.map(str::to_owned), name: name.to_owned() });
        }
        Err(Failure::usage(format!(
            "`{text}` is neither a pod (namespace/name, or a name) nor the path of a network namespace (/run/netns/…)"
        )))
    }

    /// Looks whether the namespace can be entered. The host's own needs no entering.
    pub(super) async fn place(&self, pool: &EnterPool, node: &NodeName, enter: bool) -> Result<Place, Failure> {
        if *self != Self::Host && !enter {
            return Err(Failure::could_not(
                format!(
                    "{self} cannot be asked from: entering network namespaces is not permitted; run it as root on {node}, or with \
                     CAP_SYS_ADMIN (and CAP_NET_ADMIN, to read packet filters and conntrack); --host needs neither"
                ),
                "setns: operation not permitted",
            ));
        }
        match self {
            Self::Host => Ok(Place::Host),
            Self::Pod { namespace, name } => Ok(Place::Pod { namespace: namespace.clone(), name: name.clone() }),
            Self::Path(path) => file(pool, path).await,
        }
    }
}

async fn file(pool: &EnterPool, path: &Path) -> Result<Place, Failure> {
    let opened = Netns::open(path).map_err(|error| match error {
        EnterError::NotANamespace { .. } => Failure::usage(format!(
            "{} is no network namespace; they lie in /run/netns, or are /proc/PID/ns/net",
            path.display()
        )),
        error => Failure::could_not(format!("{} cannot be opened", path.display()), error),
    })?;
    if opened.same(pool.home()) {
        return Ok(Place::Host);
    }
    let cookie = pool.cookie(&opened).await;
    let cookie = cookie.map_err(|e| Failure::could_not(format!("{} cannot be entered", path.display()), e))?;
    Ok(Place::File { path: path.to_owned(), cookie })
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("the node"),
            Self::Pod { namespace: Some(namespace), name } => write!(f, "{namespace}/{name}"),
            Self::Pod { namespace: None, name } => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The pod among those of this node.
pub(super) fn find<'a>(
    pods: impl Iterator<Item = &'a LocalPod> + Clone,
    namespace: Option<&str>,
    name: &str,
    node: &NodeName,
) -> Result<&'a LocalPod, Failure> {
    let fits = |pod: &&LocalPod| pod.key.name == name && namespace.is_none_or(|n| n == pod.key.namespace);
    let mut found: Vec<&LocalPod> = pods.clone().filter(fits).collect();
    // A pod that ends and its successor may share a name (StatefulSets): the successor is meant.
    found.sort_by_key(|pod| pod.terminating);
    let asked = namespace.map_or_else(|| name.to_owned(), |n| format!("{n}/{name}"));
    match found.as_slice() {
        [] => {
            let near = nearest(pods.map(|p| &p.key), namespace, name);
            let hint = if near.is_empty() {
                format!("no pod of {node} is known, by the API or by the CNI results")
            } else {
                format!("the nearest names on {node} are {}", near.join(", "))
            };
            Err(Failure::usage(format!(
                "there is no pod {asked} on {node}; {hint}; a pod of another node is diagnosed on that node"
            )))
        }
        [one] => Ok(one),
        [one, other, ..] if one.key == other.key => Ok(one),
        many => {
            let keys: Vec<String> = many.iter().take(NEAREST).map(|p| p.key.to_string()).collect();
            Err(Failure::usage(format!(
                "several pods on {node} are named {name}: {}; name one of them",
                keys.join(", ")
            )))
        }
    }
}

/// The names most alike, nearest first.
fn nearest<'a>(keys: impl Iterator<Item = &'a ObjectKey>, namespace: Option<&str>, name: &str) -> Vec<String> {
    let mut all: Vec<(usize, String)> = keys
        .map(|key| {
            let far = distance(&key.name, name);
            // Generated suffixes make names long: a common beginning counts for more.
            let alike = key.name.starts_with(name) || name.starts_with(&key.name) || key.name.contains(name);
            let elsewhere = namespace.is_some_and(|n| n != key.namespace);
            (if alike { 0 } else { far } + usize::from(elsewhere), key.to_string())
        })
        .collect();
    all.sort();
    all.dedup();
    all.into_iter().take(NEAREST).map(|(_, key)| key).collect()
}

/// Edits from one word to another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, d) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *d);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn pod(namespace: &str, name: &str) -> LocalPod {
        LocalPod {
            uid: format!("{namespace}-{name}").as_str().into(),
            key: ObjectKey::new(namespace, name),
            ips: Vec::new(),
            host_network: false,
            dns_policy: Default::default(),
            dns_nameservers: Vec::new(),
            running: true,
            terminating: false,
            ignored: false,
        }
    }

    #[test]
    fn a_pod_a_path_and_nonsense_are_told_apart() {
        assert_eq!(Wanted::parse(None).unwrap(), Wanted::Host);
        assert_eq!(Wanted::parse(Some("/run/netns/x")).unwrap(), Wanted::Path("/run/netns/x".into()));
        assert_eq!(Wanted::parse(Some("./x")).unwrap(), Wanted::Path("./x".into()));
        let pod =
            |namespace: Option<&str>| Wanted::Pod { namespace: namespace.map(str::to_owned), name: "cart-0".into() };
        assert_eq!(Wanted::parse(Some("shop/cart-0")).unwrap(), pod(Some("shop")));
        assert_eq!(Wanted::parse(Some("cart-0")).unwrap(), pod(None));
        for bad in ["a/b/c", "a b", "", "shop/", "/"] {
            let parsed = Wanted::parse(Some(bad));
            assert!(parsed.is_err() || matches!(parsed, Ok(Wanted::Path(_))), "{bad}");
        }
    }

    #[test]
    fn the_nearest_names_are_offered() {
        let pods = [pod("shop", "cart-7d4b-x2x9p"), pod("shop", "card"), pod("kube-system", "coredns-1")];
        let said = find(pods.iter(), Some("shop"), "cart", &"node1".into()).unwrap_err().to_string();
        assert!(
            said.contains("no pod shop/cart on node1") && said.contains("are shop/cart-7d4b-x2x9p, shop/card"),
            "{said}"
        );
        let none = find([].iter(), None, "cart", &"node1".into()).unwrap_err().to_string();
        assert!(none.contains("no pod of node1 is known"), "{none}");
    }

    #[test]
    fn a_name_alone_is_enough_where_only_one_pod_has_it() {
        let pods = [pod("shop", "cart-0"), pod("test", "cart-0"), pod("test", "till-0")];
        assert_eq!(find(pods.iter(), None, "till-0", &"n".into()).unwrap().key.namespace, "test");
        let said = find(pods.iter(), None, "cart-0", &"n".into()).unwrap_err().to_string();
        assert!(said.contains("shop/cart-0, test/cart-0"), "{said}");
        assert_eq!(find(pods.iter(), Some("test"), "cart-0", &"n".into()).unwrap().uid.as_str(), "test-cart-0");
    }

    #[test]
    fn a_successor_under_the_same_name_is_the_one_that_is_meant() {
        let (mut old, mut new) = (pod("shop", "db-0"), pod("shop", "db-0"));
        (old.uid, old.terminating) = ("old".into(), true);
        new.uid = "new".into();
        assert_eq!(find([old, new].iter(), None, "db-0", &"n".into()).unwrap().uid.as_str(), "new");
    }
}
