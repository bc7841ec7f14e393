//! Taking faults back.

use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;

use serde_json::Value;

use super::child::Failure;
use super::forge::Forger;
use super::world::World;
use crate::apiserver::{Handle, Outage};
use crate::dns::Command;
use crate::lab::{Injected, Netns};

/// How a fault is taken back.
#[derive(Debug)]
pub(super) enum Undo {
    /// It cannot be, or there is nothing to do.
    Nothing,
    /// A fault of the lab's own.
    Network(Injected),
    /// Commands in a namespace.
    Tool {
        /// Where.
        netns: Netns,
        /// The pod whose namespace that is, as `namespace/name`.
        pod: Option<String>,
        /// Pods that the commands speak of.
        about: Vec<String>,
        /// The commands, in words.
        commands: Vec<Vec<String>>,
    },
    /// Programs that still run, and what they are.
    Programs(Vec<Program>),
    /// A CoreDNS stand-in does as it should again.
    Dns(String),
    /// A CoreDNS stand-in goes on.
    Hang(String),
    /// CoreDNS processes run on; those that wait are started at once.
    Crash,
    /// A node has addresses again.
    Addresses(String),
    /// CoreDNS processes need no memory to speak of.
    Demand,
    /// The upstream stand-in does as it should again.
    Upstream,
    /// The upstream stand-in starts again.
    StopUpstream,
    /// The API server answers again.
    Outage,
    /// The API server has no trouble any more.
    Troubles,
    /// The kill switch is released.
    KillSwitch,
    /// The forger is found out.
    Forger(Box<Forger>),
    /// A merge patch back.
    Patch {
        /// Kind, namespace and name.
        of: [String; 3],
        /// The patch.
        patch: Value,
    },
    /// An object that was deleted.
    Create(Box<Value>),
    /// An object that was made: kind, namespace and name.
    Delete([String; 3]),
    /// The old text of a pod's file.
    File {
        /// The pod, as `namespace/name`.
        pod: String,
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
    },
}

/// A program in the background. Ends with this.
#[derive(Debug)]
pub(super) struct Program {
    /// Its command line.
    pub line: String,
    /// Its process.
    pub child: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

/// Takes faults back, the last one first. Gives back what could not be taken back.
pub(super) async fn lift(world: &Arc<World>, api: &Handle, undo: Vec<Undo>) -> Result<Vec<String>, Failure> {
    let (world, api) = (Arc::clone(world), api.clone());
    let work = move || {
        let mut left: Vec<String> = undo.into_iter().rev().flat_map(|undo| one(&world, &api, undo)).collect();
        left.extend(world.forget_stale_flows().err().map(|why| super::child::chain(&why)));
        left
    };
    Ok(tokio::task::spawn_blocking(work).await?)
}

fn one(world: &World, api: &Handle, undo: Undo) -> Vec<String> {
    let done: Result<(), Failure> = match undo {
        Undo::Nothing => Ok(()),
        Undo::Network(injected) => world.lift(injected).map_err(Failure::from),
        Undo::Tool { netns, pod, about, commands } => {
            // The kernel took what belonged to a pod that is gone; of a rule about it nobody knows.
            let gone = pod.is_some_and(|key| world.gone(&key));
            let excused = about.iter().any(|key| world.gone(key));
            match if gone { Ok(()) } else { world.commands(&netns, &commands) } {
                Err(_) if excused => Ok(()),
                other => other.map_err(Failure::from),
            }
        }
        Undo::Programs(programs) => return programs.into_iter().filter_map(failed).collect(),
        Undo::Dns(pod) | Undo::Hang(pod) if world.unserved(&pod) => Ok(()),
        Undo::Dns(pod) => world.tell(&pod, &Command::Ok).map_err(Failure::from),
        Undo::Hang(pod) => world.hang(&pod, false).map_err(Failure::from),
        Undo::Crash => {
            world.crash(None);
            Ok(())
        }
        Undo::Addresses(node) => {
            world.without_addresses(&node, false);
            Ok(())
        }
        Undo::Demand => {
            world.demand(0);
            Ok(())
        }
        Undo::Upstream => world.tell_upstream(&Command::Ok).map_err(Failure::from),
        Undo::StopUpstream => world.start_upstream().map_err(Failure::from),
        Undo::Outage => {
            api.outage(Outage::None);
            Ok(())
        }
        Undo::Troubles => {
            api.clear_faults();
            Ok(())
        }
        Undo::KillSwitch => super::objects::kill_switch(api, false).map(drop),
        Undo::Forger(forger) => return forger.end(),
        Undo::Patch { of: [kind, namespace, name], patch } => match api.get(&kind, &namespace, &name) {
            Some(_) => api.patch(&kind, &namespace, &name, patch).map(drop).map_err(Failure::from),
            None => Ok(()),
        },
        Undo::Create(object) => api.create(*object).map(drop).map_err(Failure::from),
        Undo::Delete([kind, namespace, name]) => api.delete(&kind, &namespace, &name).map(drop).map_err(Failure::from),
        Undo::File { pod, .. } if world.gone(&pod) => Ok(()),
        Undo::File { path, text, .. } => std::fs::write(path, text).map_err(Failure::from),
    };
    done.err().map(|why| format!("a fault could not be lifted: {}", super::child::chain(&*why))).into_iter().collect()
}

/// A program that has ended by itself did not do what the scenario wanted of it.
fn failed(mut program: Program) -> Option<String> {
    let status = program.child.try_wait().ok().flatten().filter(|status| !status.success())?;
    Some(format!("`{}` ended by itself ({status})", program.line))
}
