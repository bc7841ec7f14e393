//! From where probes are sent: the host and every pod's network namespace.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::{NetnsCookie, ObjectKey, PodUid};

/// A pod's network namespace on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// The pod.
    pub pod: PodUid,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Identity for its life.
    pub cookie: NetnsCookie,
    /// The file to open (`/run/netns/…`, or `/proc/PID/ns/net` with hostPID).
    pub path: PathBuf,
    /// The pod's addresses, from the CNI result or the API.
    pub ips: Vec<IpAddr>,
    /// The gateway that the CNI result names, if any.
    pub gateway: Option<IpAddr>,
    /// The host end of the pod's veth pair, if the CNI result names it.
    pub host_veth: Option<String>,
    /// The bridge that the CNI result names, if any.
    pub bridge: Option<String>,
    /// What the pod's resolver is configured with, and where that was read.
    pub resolv: Resolv,
    /// How the namespace was found.
    pub source: NamespaceSource,
}

/// A pod's resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolv {
    /// `nameserver` lines in order.
    pub nameservers: Vec<IpAddr>,
    /// The `search` list.
    pub search: Vec<String>,
    /// `options`.
    pub options: Vec<String>,
    /// Where it was read; `None` when nothing could be read (then the lists are empty and mean nothing).
    pub read_from: Option<String>,
    /// Why a source that should have been readable was not (a FIFO, a symlink out of the root, too large, …).
    pub trouble: Option<String>,
}

/// Which source named a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceSource {
    /// `/var/lib/cni/results`.
    CniCache,
    /// A namespace folder, matched by address.
    Folder,
    /// `/proc`, by cgroup path.
    Proc,
}

/// What netns tells the prober and diagnosis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceChanged {
    /// Found, or changed under the same cookie.
    Found(Namespace),
    /// Gone: close every socket that was opened in it.
    Gone {
        /// The pod.
        pod: PodUid,
        /// The namespace.
        cookie: NetnsCookie,
    },
}

/// From where a probe is sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "vantage")]
pub enum Vantage {
    /// The node's own network namespace.
    Host,
    /// A pod's.
    Pod {
        /// The pod.
        uid: PodUid,
        /// Its namespace and name.
        key: ObjectKey,
        /// The namespace.
        cookie: NetnsCookie,
    },
}

impl Vantage {
    /// Host or pod.
    #[must_use]
    pub fn kind(&self) -> VantageKind {
        match self {
            Self::Host => VantageKind::Host,
            Self::Pod { .. } => VantageKind::Pod,
        }
    }
}

impl fmt::Display for Vantage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Pod { key, .. } => key.fmt(f),
        }
    }
}

/// Host or pod, without which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum VantageKind {
    /// The node.
    Host,
    /// A pod.
    Pod,
}
