//! Cluster DNS as it can be seen without standing on a node: from outside by what is reachable, from inside by probe pods, and
//! by what the agents have written.
//!
//! Is told: the DNS Services, nodes and CoreDNS pods as the API knows them, what came of the questions, what probe pods left,
//! NodeAgents and DnsIncidents. Tells: ways to ask, probe Jobs to start, and what all of it means. It is no actor: commands
//! use it, and `nameward run` outside of a cluster looks by it again and again.
//!
//! Invariants:
//! 1. What is not reached from here is not known; it is never called unhealthy. Only a way that was proven by a reply can fail.
//! 2. An address that the cluster did not publish (a pod's, the Service's own) counts only once the right answer came from it:
//!    in the network of whoever asks it may be somebody else's.
//! 3. A probe pod needs no rights and has none: no token, no capability, Pod Security `restricted`, bounds on time, memory and
//!    processor. It is removed by who started it, else by its Job's deadline and time to live.
//! 4. Only ended Jobs of the same origin are cleaned up: never another person's, never one that still runs.
//!
//! [`place`] says whether this process stands outside, [`reach`] which ways there are, [`asking`] what is asked, [`judge`] what
//! answers mean, [`pods`] makes probe Jobs and reads what they left, [`status`] reads the agents' own word. With the feature
//! `io`: `ask` asks, `look` reads the API and looks once, `launch` starts and removes probe Jobs.

pub mod asking;
pub mod judge;
pub mod place;
pub mod pods;
pub mod reach;
pub mod status;

#[cfg(feature = "io")]
pub mod ask;
#[cfg(feature = "io")]
pub mod launch;
#[cfg(feature = "io")]
pub mod look;
