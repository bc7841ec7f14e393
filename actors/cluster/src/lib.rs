//! The cluster as Nameward meets it: custom resources, discovery, the Lease, and every call to the Kubernetes API.
//!
//! Without the feature `io` this crate holds types and decisions only: how objects are decoded ([`wire`]), which Service is
//! cluster DNS ([`discovery`]), who owns a field ([`owners`]), what the next memory limit is ([`memory`]) and who leads
//! ([`lease`]). With it come the connection with its way around a lost service address ([`connect`]), the custom resource
//! definitions ([`crd`]) and the calls themselves ([`calls`]).
//!
//! Invariants:
//! 1. No call that changes anything is ever retried here: who asked decides, after reading again.
//! 2. Every act on a shared object is conditional on its uid, its `resourceVersion`, or both; pods are evicted, never deleted.
//! 3. A call whose outcome is not known says so ([`failure::Class::OutcomeUnknown`]) and is not reported as a failure.
//! 4. One object that cannot be read never breaks a list or a watch of others.

pub mod discovery;
pub mod failure;
pub mod lease;
pub mod memory;
pub mod names;
pub mod owners;
pub mod wire;

#[cfg(feature = "io")]
pub mod calls;
#[cfg(feature = "io")]
pub mod connect;
#[cfg(feature = "io")]
pub mod crd;
#[cfg(feature = "io")]
pub mod watched;

#[cfg(test)]
mod testing;
