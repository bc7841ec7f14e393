//! What is read of a CoreDNS process besides its sockets: what it says of itself over HTTP, its cgroup, its way to the API.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use nameward_kernel::cgroup::figures::CgroupFigures;
use nameward_kernel::coredns::CorednsMetrics;
use nameward_kernel::facts::Reading;
use nameward_messages::PodUid;
use nameward_messages::targets::DnsPod;
use serde::{Deserialize, Serialize};

use crate::record::{EvidenceRecord, Sample};

/// Where CoreDNS's own pages are, and the node's cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Plugin `ready`; 0: not asked.
    pub ready_port: u16,
    /// Plugin `prometheus`; 0: not asked.
    pub metrics_port: u16,
    /// The root of the node's cgroups.
    pub cgroups: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        let defaults = nameward_config::Config::default().diagnosis;
        Self {
            ready_port: defaults.coredns_ready_port,
            metrics_port: defaults.coredns_metrics_port,
            cgroups: defaults.cgroups,
        }
    }
}

/// One CoreDNS process that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantProcess {
    /// Its pod.
    pub uid: PodUid,
    /// The file of its network namespace.
    pub path: PathBuf,
    /// Its address.
    pub ip: IpAddr,
    /// Where to look.
    pub places: Places,
    /// The `kubernetes` Service, and then the API servers behind it.
    pub api: Vec<SocketAddr>,
}

/// What was read of one CoreDNS process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessReadings {
    /// What `/ready` says.
    pub ready: Reading<Ready>,
    /// Its counters.
    pub metrics: Reading<CorednsMetrics>,
    /// Its cgroup's counters.
    pub cgroup: Reading<CgroupFigures>,
    /// The way to the API, from its namespace and from the host's.
    pub api: Reading<ApiWays>,
}

/// What came of asking `http://POD:8181/ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ready")]
pub enum Ready {
    /// 200.
    Yes,
    /// 503: these plugins are waited for.
    Waiting {
        /// By name.
        plugins: Vec<String>,
    },
    /// Another status.
    Status {
        /// Which.
        status: u16,
    },
    /// Nobody listens: the plugin is not configured, or the process is gone.
    Refused,
    /// It connected and did not answer in time.
    Silent,
}

/// Whether TCP connections to the API can be made, in one word each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiWays {
    /// From inside the CoreDNS pod, in the order that was asked for: the Service first.
    pub inside: Vec<(SocketAddr, Way)>,
    /// From the node.
    pub host: Vec<(SocketAddr, Way)>,
}

/// One try to connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "way")]
pub enum Way {
    /// It connects.
    Open,
    /// It does not; why.
    Shut {
        /// `refused`, `no answer`, or what the kernel said.
        why: String,
    },
    /// It could not be tried.
    Unknown,
}

impl ApiWays {
    /// Whether the API can be reached from inside: by its Service, which is what CoreDNS uses. `None`: not known.
    #[must_use]
    pub fn open_inside(&self) -> Option<bool> {
        match self.inside.first()?.1 {
            Way::Open => Some(true),
            Way::Shut { .. } => Some(false),
            Way::Unknown => None,
        }
    }

    /// Whether any API server answers the host.
    #[must_use]
    pub fn open_on_host(&self) -> Option<bool> {
        let known: Vec<bool> = self
            .host
            .iter()
            .filter_map(|(_, way)| match way {
                Way::Open => Some(true),
                Way::Shut { .. } => Some(false),
                Way::Unknown => None,
            })
            .collect();
        (!known.is_empty()).then(|| known.contains(&true))
    }
}

/// The readings of a pod's process in a sample.
#[must_use]
pub fn of<'a>(sample: &'a Sample, pod: &DnsPod) -> Option<&'a ProcessReadings> {
    sample.processes.get(&pod.uid)
}

/// Its counters in a sample.
#[must_use]
pub fn metrics<'a>(sample: &'a Sample, pod: &DnsPod) -> Option<&'a CorednsMetrics> {
    of(sample, pod)?.metrics.value()
}

/// By how much a counter of the process rose between the two samples; `None`: it could not be read twice, or began anew.
#[must_use]
pub fn rise(record: &EvidenceRecord, pod: &DnsPod, counter: impl Fn(&CorednsMetrics) -> Option<u64>) -> Option<u64> {
    let (before, after) = (record.previous.as_ref()?, record.current.as_ref()?);
    counter(metrics(after, pod)?)?.checked_sub(counter(metrics(before, pod)?)?)
}

/// How many queries the process says have reached it over UDP between the two samples, in which we have asked it: none
/// means that they were lost on the way. `None`: not known.
#[must_use]
pub fn arrived(record: &EvidenceRecord, pod: &DnsPod) -> Option<u64> {
    rise(record, pod, |metrics| metrics.udp_requests)
}

/// Readings by pod, for a sample.
pub type Processes = BTreeMap<PodUid, ProcessReadings>;
