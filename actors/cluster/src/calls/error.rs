//! What was asked and how it failed.

use std::time::Duration;

use kube::core::Status;
use nameward_messages::ObjectKey;

use crate::failure::Class;

/// One per operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is named as its text says")]
pub enum Operation {
    #[error("read pod {0}")]
    ReadPod(ObjectKey),
    #[error("list the pods {selector} in {namespace}")]
    ListPods { namespace: String, selector: String },
    #[error("evict pod {0}")]
    Evict(ObjectKey),
    #[error("resize pod {0}")]
    ResizePod(ObjectKey),
    #[error("read Deployment {0}")]
    ReadDeployment(ObjectKey),
    #[error("read DaemonSet {0}")]
    ReadDaemonSet(ObjectKey),
    #[error("raise the memory limit of Deployment {0}")]
    RaiseMemory(ObjectKey),
    #[error("scale Deployment {0}")]
    Scale(ObjectKey),
    #[error("list the disruption budgets in {0}")]
    ListBudgets(String),
    #[error("read Service {0}")]
    ReadService(ObjectKey),
    #[error("list the Services with label {0}")]
    ListServices(String),
    #[error("list the Services in {0}")]
    ListServicesIn(String),
    #[error("list the EndpointSlices of {0}")]
    ListSlices(ObjectKey),
    #[error("read EndpointSlice {0}")]
    ReadSlice(ObjectKey),
    #[error("read ConfigMap {0}")]
    ReadConfigMap(ObjectKey),
    #[error("read Node {0}")]
    ReadNode(String),
    #[error("list the nodes")]
    ListNodes,
    #[error("create the probe Job {0}")]
    CreateJob(ObjectKey),
    #[error("have a probe pod admitted in {0}")]
    TryPod(String),
    #[error("list the probe Jobs {selector} in {namespace}")]
    ListJobs { namespace: String, selector: String },
    #[error("delete the probe Job {0}")]
    DeleteJob(ObjectKey),
    #[error("write the condition of Node {0}")]
    WriteCondition(String),
    #[error("write an Event on {0}")]
    WriteEvent(String),
    #[error("read NodeAgent {0}")]
    ReadAgent(String),
    #[error("list the NodeAgents")]
    ListAgents,
    #[error("create NodeAgent {0}")]
    CreateAgent(String),
    #[error("write the orders of NodeAgent {0}")]
    WriteOrders(String),
    #[error("write the report of NodeAgent {0}")]
    WriteReport(String),
    #[error("read DnsIncident {0}")]
    ReadIncident(String),
    #[error("list the DnsIncidents")]
    ListIncidents,
    #[error("create DnsIncident {0}")]
    CreateIncident(String),
    #[error("write the status of DnsIncident {0}")]
    WriteIncident(String),
    #[error("delete DnsIncident {0}")]
    DeleteIncident(String),
    #[error("read Lease {0}")]
    ReadLease(ObjectKey),
    #[error("create Lease {0}")]
    CreateLease(ObjectKey),
    #[error("replace Lease {0}")]
    ReplaceLease(ObjectKey),
    #[error("ask which permissions this process has")]
    ReviewAccess,
    #[error("have a visitor's token reviewed")]
    ReviewToken,
    #[error("ask whether a visitor may read the page")]
    ReviewVisitor,
    #[error("ask for the version of the API server")]
    ReadVersion,
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation}")]
pub struct CallError {
    /// What was asked.
    pub operation: Operation,
    /// What the asker can make of it.
    pub class: Class,
    /// What happened.
    #[source]
    pub cause: Box<Cause>,
}

/// What happened.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The API server refused.
    #[error("{} {}: {}", .0.code, .0.reason, .0.message)]
    Answer(Box<Status>),
    /// There was no answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// No connection.
    #[error("the API server was not reached: {0}")]
    NoConnection(String),
    /// Anything else: the connection was lost, or the answer could not be read.
    #[error("the call broke off: {0}")]
    Broken(String),
    /// The request could not be put together.
    #[error("the request cannot be built")]
    Request(#[source] http::Error),
}

impl CallError {
    pub(super) fn new(operation: Operation, cause: Cause, read: bool) -> Self {
        let class = match &cause {
            Cause::Answer(status) => {
                let details = status.details.as_ref();
                let budget = details.is_some_and(|d| d.causes.iter().any(|cause| cause.reason == "DisruptionBudget"));
                let wait = details.map_or(0, |d| d.retry_after_seconds);
                Class::of_answer(status.code, &status.message, budget, wait)
            }
            Cause::NoConnection(_) => Class::Unreachable,
            Cause::Request(_) => Class::Invalid,
            Cause::TimedOut(_) | Cause::Broken(_) => Class::OutcomeUnknown,
        };
        Self { operation, class: if read { class.of_a_read() } else { class }, cause: Box::new(cause) }
    }

    /// The whole chain on one line, for people.
    #[must_use]
    pub fn explain(&self) -> String {
        format!("{self}: {}", self.cause)
    }
}

impl From<kube::Error> for Cause {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Answer(status),
            // Credentials are fetched before anything is sent.
            kube::Error::Auth(error) => Self::NoConnection(format!("no credentials: {}", innermost(&error))),
            other => {
                let text = innermost(&other);
                if never_connected(&other) { Self::NoConnection(text) } else { Self::Broken(text) }
            }
        }
    }
}

/// Whether the failure came before a connection was there, so that nothing can have been sent.
fn never_connected(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(client) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return client.is_connect();
        }
        if error.is::<crate::connect::NoRoute>() {
            return true;
        }
        at = error.source();
    }
    false
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
