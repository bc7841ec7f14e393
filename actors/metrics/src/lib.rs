//! The metrics room: what people and other programs see of Nameward.
//!
//! Is told: everything, by every actor ([`MetricsInput`]). Tells nobody. Serves, on `metrics.listen`:
//!
//! | page | what |
//! |---|---|
//! | `/metrics` | Prometheus text; every name is in [`names`] |
//! | `/healthz` | 200 while no actor is dead or stuck; depends on neither network nor API |
//! | `/readyz` | 200 once every actor is ready or degraded, else what is awaited |
//! | `/` | the status page, to loopback alone; with `metrics.open_state` also to whom the API server lets in ([`Review`]); to others a list of the pages |
//! | `/status.json` | the same as JSON, to the same |
//! | `/state` | JSON of all that is known, to the same |
//!
//! Invariants:
//! 1. No page changes anything.
//! 2. Every label is an enum, except names of CoreDNS pods and their nodes, which are capped and leave with the pod.
//! 3. What the mind keeps is bounded, however long the process runs.
//! 4. The pages answer while the actor is being rebuilt: they read what it last published.
//! 5. Whatever comes from the world stands on a page as text: [`html`] has no way of writing it as markup.
//! 6. The status page loads nothing from elsewhere, and a page of another origin cannot read it.
//! 7. Whoever is not on this machine is shown what is known of the cluster only by the API server's word, and not when it says nothing.

pub mod html;
pub mod input;
pub mod mind;
pub mod names;
mod page;
pub mod state;
pub mod status;

#[cfg(feature = "actor")]
mod actor;
#[cfg(feature = "actor")]
mod connections;
#[cfg(feature = "actor")]
mod gate;
#[cfg(feature = "actor")]
mod inbox;
#[cfg(feature = "actor")]
mod pages;
#[cfg(feature = "actor")]
mod registry;
#[cfg(feature = "actor")]
mod server;

#[cfg(feature = "actor")]
pub use actor::MetricsActor;
#[cfg(feature = "actor")]
pub use gate::{AUDIENCE, Review, Reviewing, Visitor};
pub use input::{ConfigReload, MetricsInput};
pub use mind::{MetricsMind, Output};
pub use names::{Metric, catalogue};
pub use page::page;
#[cfg(feature = "actor")]
pub use pages::Pages;
#[cfg(feature = "actor")]
pub use registry::RegistryError;
#[cfg(feature = "actor")]
pub use server::{BindError, Endpoint, bind};
pub use state::About;
