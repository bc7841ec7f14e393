//! kube-proxy in the lab: one per node, told of Services and endpoints by whoever plays the control plane.

use super::build::Lab;
use super::error::LabError;
use crate::proxy::{Mode, Proxy, ServiceState};

impl Lab {
    /// Installs kube-proxy's rules, and the kubelet's, on a node that has none.
    ///
    /// # Errors
    ///
    /// If the node is unknown or a program refuses.
    pub fn install_proxy(&mut self, node: &str, mode: Mode, state: ServiceState) -> Result<(), LabError> {
        let proxy = Proxy::install(&self.node(node)?.netns, mode, state)?;
        self.proxies.insert(node.to_owned(), proxy);
        Ok(())
    }

    /// Tells a node's kube-proxy of Services and endpoints as they are now. In the kernel within about 30 ms, unless a fault
    /// holds this kube-proxy.
    ///
    /// # Errors
    ///
    /// If the node has no kube-proxy or its program refuses.
    pub fn apply_services(&mut self, node: &str, state: ServiceState) -> Result<(), LabError> {
        self.proxy_mut(node)?.apply(state)
    }

    /// The kube-proxy of a node.
    ///
    /// # Errors
    ///
    /// If none was installed.
    pub fn proxy(&self, node: &str) -> Result<&Proxy, LabError> {
        self.proxies.get(node).ok_or_else(|| LabError::Unknown { kind: "kube-proxy on", name: node.into() })
    }

    /// The kube-proxy of a node starts anew: it writes all its rules, whatever held it.
    ///
    /// # Errors
    ///
    /// If there is none, or a program refuses.
    pub fn resync(&mut self, node: &str) -> Result<(), LabError> {
        self.proxy_mut(node)?.resync()
    }

    pub(super) fn proxy_mut(&mut self, node: &str) -> Result<&mut Proxy, LabError> {
        self.proxies.get_mut(node).ok_or_else(|| LabError::Unknown { kind: "kube-proxy on", name: node.into() })
    }
}
