//! The custom resources: their types for kube's `Api`, and their definitions.

mod definition;
mod yaml;

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::ClusterResourceScope;
use nameward_messages::plan::{IncidentSpec, IncidentStatus};
use nameward_messages::report::{NodeOrders, NodeReport};
use serde::{Deserialize, Serialize};

use crate::names::{GROUP, VERSION};

pub use definition::{crds, crds_yaml};

macro_rules! resource {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $plural:literal, $spec:ty, $status:ty) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            /// `apiVersion`.
            #[serde(default)]
            pub api_version: String,
            /// `kind`.
            #[serde(default)]
            pub kind: String,
            /// `metadata`.
            pub metadata: ObjectMeta,
            /// `spec`.
            pub spec: $spec,
            /// `status`, a subresource.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub status: Option<$status>,
        }

        impl $name {
            /// A new one under this name.
            #[must_use]
            pub fn new(name: &str, spec: $spec) -> Self {
                Self {
                    api_version: format!("{GROUP}/{VERSION}"),
                    kind: $kind.to_owned(),
                    metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
                    spec,
                    status: None,
                }
            }
        }

        impl Resource for $name {
            type DynamicType = ();
            type Scope = ClusterResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                GROUP.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                VERSION.into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(
    /// One node's agent, named as the node: what the coordinator orders and what the agent reports.
    NodeAgent, "NodeAgent", "nodeagents", NodeOrders, NodeReport
);
resource!(
    /// Something was or is wrong with cluster DNS: what, where, what was done about it.
    DnsIncident, "DnsIncident", "dnsincidents", IncidentSpec, IncidentStatus
);

#[cfg(test)]
mod tests;
