//! Services, EndpointSlices, ConfigMaps.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Meta, nullable};

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: ServiceSpec,
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `clusterIP`.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// `clusterIPs`.
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    pub cluster_ips: Vec<String>,
    /// `ports`.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<ServicePort>,
    /// `selector`.
    #[serde(deserialize_with = "nullable")]
    pub selector: BTreeMap<String, String>,
    /// `internalTrafficPolicy`.
    pub internal_traffic_policy: Option<String>,
    /// `type`.
    pub r#type: Option<String>,
}

/// One of a Service's `ports`. Its target port is not read: EndpointSlices have it resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServicePort {
    /// `name`.
    pub name: String,
    /// `port`.
    pub port: u16,
    /// `protocol`; TCP when absent.
    pub protocol: Option<String>,
}

impl ServicePort {
    /// Whether it is a UDP port.
    #[must_use]
    pub fn udp(&self) -> bool {
        self.protocol.as_deref() == Some("UDP")
    }

    /// Whether it is a TCP port.
    #[must_use]
    pub fn tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// `metadata`.
    pub metadata: Meta,
    /// `addressType`.
    pub address_type: String,
    /// `endpoints`.
    #[serde(deserialize_with = "nullable")]
    pub endpoints: Vec<Endpoint>,
    /// `ports`.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<SlicePort>,
}

/// One of a slice's `endpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// `addresses`.
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<String>,
    /// `conditions`.
    #[serde(deserialize_with = "nullable")]
    pub conditions: EndpointConditions,
    /// `nodeName`.
    pub node_name: Option<String>,
    /// `targetRef`.
    pub target_ref: Option<TargetRef>,
}

/// `conditions` of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// `ready`; absent means yes, as the API reference says.
    pub ready: Option<bool>,
    /// `terminating`; absent means no.
    pub terminating: Option<bool>,
}

/// `targetRef` of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    /// `kind`.
    pub kind: String,
    /// `namespace`.
    pub namespace: String,
    /// `name`.
    pub name: String,
    /// `uid`.
    pub uid: String,
}

/// One of a slice's `ports`, with its number resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SlicePort {
    /// `name`.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// `port`.
    pub port: Option<u16>,
    /// `protocol`.
    pub protocol: Option<String>,
}

/// A ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConfigMap {
    /// `metadata`.
    pub metadata: Meta,
    /// `data`.
    #[serde(deserialize_with = "nullable")]
    pub data: BTreeMap<String, String>,
}
