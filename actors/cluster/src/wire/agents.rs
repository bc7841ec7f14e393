//! Nameward's own objects, read leniently: an agent of another version may write what this one does not know, and one
//! such object must not blind the coordinator for all others.

use std::sync::Arc;

use nameward_messages::plan::{IncidentSpec, IncidentStatus};
use nameward_messages::report::{NodeOrders, NodeReport};
use serde::{Deserialize, Deserializer};

use super::{Meta, lenient};

/// A `NodeAgent`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AgentObject {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`; `None` when it cannot be read.
    #[serde(rename = "spec", deserialize_with = "lenient")]
    pub orders: Option<NodeOrders>,
    /// `status`; `None` when it is absent or cannot be read.
    #[serde(rename = "status", deserialize_with = "shared")]
    pub report: Option<Arc<NodeReport>>,
}

/// A `DnsIncident`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct IncidentObject {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`; `None` when it cannot be read.
    #[serde(deserialize_with = "lenient")]
    pub spec: Option<IncidentSpec>,
    /// `status`, the first phase where it is absent; `None` when it cannot be read.
    #[serde(default = "unwritten", deserialize_with = "lenient")]
    pub status: Option<IncidentStatus>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
fn unwritten() -> Option<IncidentStatus> {
    Some(IncidentStatus::default())
}

fn shared<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<NodeReport>>, D::Error> {
    Ok(lenient::<D, NodeReport>(from)?.map(Arc::new))
}
