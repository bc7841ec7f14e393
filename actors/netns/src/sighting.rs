//! What a look at the machine brings home.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use nameward_messages::namespaces::{Namespace, NamespaceSource, Resolv};
use nameward_messages::pods::LocalPod;
use nameward_messages::{NetnsCookie, ObjectKey, PodUid};
use serde::{Deserialize, Serialize};

/// A pod whose namespace is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedPod {
    /// Its uid.
    pub uid: PodUid,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its addresses, as far as the API knows.
    pub ips: Vec<IpAddr>,
}

impl WantedPod {
    pub(crate) fn of(pod: &LocalPod) -> Self {
        Self { uid: pod.uid.clone(), key: pod.key.clone(), ips: pod.ips.clone() }
    }
}

/// What to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanRequest {
    /// Names the scan; its result carries the same number.
    pub number: u64,
    /// The pods of this node.
    pub pods: Vec<WantedPod>,
}

/// One open namespace and what it says of its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// How it was found.
    pub source: NamespaceSource,
    /// The file that was opened.
    pub path: PathBuf,
    /// Its identity.
    pub cookie: NetnsCookie,
    /// Whose it is, as far as the source says.
    pub whose: Whose,
    /// Its addresses, by the source.
    pub ips: Vec<IpAddr>,
    /// The gateway that the source names.
    pub gateway: Option<IpAddr>,
    /// The host end of the veth pair that the source names.
    pub host_veth: Option<String>,
    /// The bridge that the source names.
    pub bridge: Option<String>,
    /// The pod's resolver configuration, as far as it could be read.
    pub resolv: Resolv,
}

impl Sighting {
    /// As the namespace of this pod.
    #[must_use]
    pub fn namespace_of(&self, pod: &WantedPod) -> Namespace {
        Namespace {
            pod: pod.uid.clone(),
            key: pod.key.clone(),
            cookie: self.cookie,
            path: self.path.clone(),
            ips: if self.ips.is_empty() { pod.ips.clone() } else { self.ips.clone() },
            gateway: self.gateway,
            host_veth: self.host_veth.clone(),
            bridge: self.bridge.clone(),
            resolv: self.resolv.clone(),
            source: self.source,
        }
    }

    /// Whether one of the addresses is its own.
    #[must_use]
    pub fn meets(&self, ips: &[IpAddr]) -> bool {
        ips.iter().any(|ip| self.ips.contains(ip))
    }
}

/// Whose a namespace is, by its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// The source names the pod's uid.
    Uid(PodUid),
    /// It names the pod without a uid.
    Key(ObjectKey),
    /// It names nobody: the addresses must tell.
    Addresses,
}

/// The result of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The request's number.
    pub number: u64,
    /// What was seen.
    pub sightings: Vec<Sighting>,
    /// Every source that exists was read to its end: what was not seen is not there.
    pub whole: bool,
    /// What could not be read, with what would help; for people.
    pub troubles: Vec<String>,
}

/// The last scan, with a way from a pod to what may be its namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    sightings: Vec<Sighting>,
    by_uid: BTreeMap<PodUid, Vec<usize>>,
    by_key: BTreeMap<ObjectKey, Vec<usize>>,
    by_ip: BTreeMap<IpAddr, Vec<usize>>,
    pub(crate) whole: bool,
    pub(crate) troubles: Vec<String>,
}

impl Seen {
    pub(crate) fn of(scan: Scan) -> Self {
        let mut seen = Self { whole: scan.whole, troubles: scan.troubles, ..Self::default() };
        for (at, sighting) in scan.sightings.iter().enumerate() {
            match &sighting.whose {
                Whose::Uid(uid) => seen.by_uid.entry(uid.clone()).or_default().push(at),
                Whose::Key(key) => seen.by_key.entry(key.clone()).or_default().push(at),
                Whose::Addresses => {
                    for ip in &sighting.ips {
                        seen.by_ip.entry(*ip).or_default().push(at);
                    }
                }
            }
        }
        seen.sightings = scan.sightings;
        seen
    }

    /// What may be this pod's: a source that names a pod is believed, else an address must be its own.
    pub(crate) fn candidates(&self, pod: &LocalPod) -> impl Iterator<Item = &Sighting> {
        let named = self.by_uid.get(&pod.uid).into_iter().chain(self.by_key.get(&pod.key));
        let meeting = pod.ips.iter().filter_map(|ip| self.by_ip.get(ip));
        named.chain(meeting).flatten().filter_map(|at| self.sightings.get(*at))
    }
}
