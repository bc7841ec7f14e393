//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps Kubernetes cluster DNS answering: probes, diagnoses, remedies, verifies.
#[derive(Debug, Parser)]
#[command(name = "nameward", version, max_term_width = 110)]
#[command(after_help = "Exit status: 0 healthy, 1 unhealthy, 2 usage or configuration, 3 could not find out.\n\n\
Examples:\n  nameward check                       ask once from here and say what is wrong\n  \
nameward simulate udp-dead           rehearse an incident without a cluster\n  \
nameward run --config nameward.toml  the agent and the coordinator in one process")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run as agent, as coordinator or as both, until SIGTERM.
    Run(RunArgs),
    /// Ask once from here (as root on a node: from every pod's namespace); print the matrix and verdicts.
    Check(CheckArgs),
    /// Rehearse incidents in a simulated cluster on this machine; nothing outside of it is touched.
    Simulate(SimulateArgs),
    /// Check, print or describe the configuration.
    #[command(after_help = "Examples:\n  nameward config check /etc/nameward/nameward.toml\n  \
nameward config print > nameward.toml")]
    Config(ConfigArgs),
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  nameward completions bash > /etc/bash_completion.d/nameward")]
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// Configuration file (TOML). Without it the defaults are in force, with NAMEWARD_… variables laid over them.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Kubeconfig file; overrides `kubernetes.kubeconfig`.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig; overrides `kubernetes.context`.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// UDP port of the CoreDNS pods; overrides `discovery.udp_port`.
    #[arg(long, value_name = "PORT")]
    pub(crate) udp_port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Everything on its own node; no power over CoreDNS.
    Agent,
    /// Judges across nodes and alone touches CoreDNS, while it holds the Lease.
    Coordinator,
    /// Both.
    All,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  nameward run --config /etc/nameward/nameward.toml\n  \
nameward run --role agent\n  NAMEWARD_REMEDY_MODE=act nameward run --role coordinator")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Which half to run.
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) role: Role,
    /// Rehearsal: an actor panics once in the handling of its Nth message, as ACTOR=N. May be given more than once.
    #[arg(long, hide = true, value_name = "ACTOR=N")]
    pub(crate) rehearse_panic: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nameward check\n  nameward check --kubeconfig ~/.kube/config --context staging\n  \
nameward check --output json | jq .verdicts"
)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Table for people or JSON for programs.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  nameward simulate --list\n  nameward simulate udp-dead\n  \
nameward simulate --all --output json\n  nameward simulate udp-dead --watch   keep the cluster running afterwards\n  \
nameward simulate ./my-outage.toml\n\nRuns as root or as an ordinary user, in namespaces of its own: killing it leaves nothing behind.")]
pub(crate) struct SimulateArgs {
    /// A scenario by name, or a file.
    #[arg(required_unless_present_any = ["all", "list"])]
    pub(crate) scenario: Vec<String>,
    /// Every scenario.
    #[arg(long, conflicts_with = "scenario")]
    pub(crate) all: bool,
    /// Name the scenarios.
    #[arg(long)]
    pub(crate) list: bool,
    /// Keep the simulated cluster running after the scenario, until Ctrl-C.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Check times as written; else threefold.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Run each scenario's controls too: without its fault, and with remedies off.
    #[arg(long)]
    pub(crate) controls: bool,
    /// Each actor of each process panics once on the way.
    #[arg(long)]
    pub(crate) panics: bool,
    /// Scenarios at once; 0: as cores allow.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) jobs: usize,
    /// Timeline for people or JSON for programs, one object per scenario.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a file; every problem is named with file, line and column.
    #[command(after_help = "Example:\n  nameward config check /etc/nameward/nameward.toml")]
    Check {
        /// The file.
        file: PathBuf,
        /// Text or JSON.
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Print what would be in force: defaults, file and environment.
    #[command(after_help = "Example:\n  NAMEWARD_PROBE_INTERVAL=5s nameward config print")]
    Print {
        /// The file.
        file: Option<PathBuf>,
    },
    /// Print the JSON schema, for editors.
    #[command(after_help = "Example:\n  nameward config schema > nameward.schema.json")]
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Form of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}
