//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps Kubernetes cluster DNS answering: probes, diagnoses, remedies, verifies.
#[derive(Debug, Parser)]
#[command(name = "nameward", version, max_term_width = 110)]
#[command(after_help = "Exit status: 0 healthy, 1 unhealthy, 2 usage or configuration, 3 could not find out.\n\n\
Examples:\n  nameward check                       ask once from here and say what is wrong\n  \
nameward status                      what the agents of a cluster say\n  \
nameward diagnose shop/cart          explain one pod's DNS, packet by packet\n  \
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
    /// What the agents and the coordinator of a cluster say: nodes, incidents, who leads.
    Status(StatusArgs),
    /// Explain the DNS of one pod, namespace or node: what answers, the way of a packet, the cause, the remedy.
    Diagnose(DiagnoseArgs),
    /// Rehearse incidents in a simulated cluster on this machine; nothing outside of it is touched.
    Simulate(SimulateArgs),
    /// Check, print or describe the configuration.
    #[command(after_help = "Examples:\n  nameward config check /etc/nameward/nameward.toml\n  \
nameward config print > nameward.toml")]
    Config(ConfigArgs),
    /// Ask a plan's questions, as a probe pod does; the answers go to standard output and to the pod's last words.
    #[command(hide = true)]
    Ask(AskArgs),
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
    /// Namespace of Nameward's own objects (Lease, kill switch, probe pods); overrides `kubernetes.namespace`.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// UDP port of the CoreDNS pods; overrides `discovery.udp_port`.
    #[arg(long, value_name = "PORT")]
    pub(crate) udp_port: Option<u16>,
    /// What is logged: error, warn, info, debug, trace or a filter; overrides `log.level`, also when that changes.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// What is done where this machine is no node of the cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct Outside {
    /// Look from outside the cluster. Not stated: done where the API knows no node of this machine's name.
    #[arg(long)]
    pub(crate) outside: bool,
    /// From outside: start short-lived probe pods in the cluster as well, read what they find and remove them.
    #[arg(long)]
    pub(crate) allow_pods: bool,
    /// With --allow-pods: probe from this node, and from others that are named so. Not stated: up to three are chosen.
    #[arg(long, requires = "allow_pods", value_name = "NODE")]
    pub(crate) from_node: Vec<String>,
    /// With --allow-pods: the image of the probe pods, of this very version.
    #[arg(long, value_name = "IMAGE", default_value = nameward_outside::pods::IMAGE)]
    pub(crate) probe_image: String,
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
nameward run --role agent\n  nameward run --kubeconfig ~/.kube/config --context staging\n  NAMEWARD_REMEDY_MODE=act nameward run --role coordinator")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) outside: Outside,
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
nameward check --allow-pods --from-node worker-3\n  nameward check --output json | jq .verdicts\n\n\
Exit status: 0 every path answers, 1 a path fails and was confirmed, 2 usage or configuration,\n\
3 could not find out: no API, nothing to ask, or nothing is reached from outside."
)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) outside: Outside,
    /// Table for people or JSON for programs.
    #[arg(long, short, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "nameward diagnose [OPTIONS] <POD|PATH>\n       nameward diagnose [OPTIONS] --host\n       \
nameward diagnose --list-causes",
    after_help = "Examples:\n  nameward diagnose shop/cart              a pod of this node, as root on the node\n  \
nameward diagnose /run/netns/cni-3f1c…   a network namespace by its file\n  \
nameward diagnose --host                 the node itself\n  \
nameward diagnose shop/cart --output json | jq .causes\n  \
nameward diagnose --list-causes          what can be found, and what is done about it\n\n\
It asks and reads for about 5 s where all is well, for up to 40 s where nothing explains what fails, and changes nothing.\n\
Exit status: 0 healthy, 1 unhealthy, 2 usage or configuration, 3 could not find out."
)]
pub(crate) struct DiagnoseArgs {
    /// A pod of this node, as `namespace/name` or by its name alone, or the file of a network namespace.
    #[arg(value_name = "POD|PATH", required_unless_present_any = ["host", "list_causes"])]
    pub(crate) subject: Option<String>,
    /// The node's own network namespace.
    #[arg(long, conflicts_with = "subject")]
    pub(crate) host: bool,
    /// List the causes that can be named, and ask nothing.
    #[arg(long, conflicts_with_all = ["subject", "host"])]
    pub(crate) list_causes: bool,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Tables for people or JSON for programs.
    #[arg(long, short, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

/// What is simulated in virtual time.
#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    /// With --virtual: so many seeds.
    #[arg(long, default_value_t = 100, requires = "in_virtual_time", value_name = "N")]
    pub(crate) seeds: u64,
    /// With --virtual: begin with this seed.
    #[arg(long, default_value_t = 0, requires = "in_virtual_time", value_name = "SEED")]
    pub(crate) from: u64,
    /// With --virtual: this seed alone.
    #[arg(long, requires = "in_virtual_time", conflicts_with_all = ["seeds", "from"], value_name = "SEED")]
    pub(crate) seed: Option<u64>,
    /// With --virtual: tell everything that happened, not only the end of what failed.
    #[arg(long, requires = "in_virtual_time")]
    pub(crate) trace: bool,
    /// With --virtual: so many nodes in every history, instead of what the seed says.
    #[arg(long, requires = "in_virtual_time", value_name = "N")]
    pub(crate) nodes: Option<usize>,
    /// With --virtual: so many days of a healthy cluster with rollouts, drains and 1 % loss, in which nothing may be remedied.
    #[arg(long, conflicts_with = "seeds", requires = "in_virtual_time", value_name = "N")]
    pub(crate) days: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  nameward simulate --list\n  nameward simulate udp-dead\n  \
nameward simulate --all --output json\n  nameward simulate udp-dead --watch   keep the cluster running afterwards\n  \
nameward simulate ./my-outage.toml\n  \
nameward simulate --virtual --seeds 1000          a thousand histories in virtual time\n  \
nameward simulate --virtual --seed 4711 --trace   one of them, told in full\n  \
nameward simulate --virtual --days 30 --nodes 5   a month of a healthy cluster\n\nRuns as root or as an ordinary user, in namespaces of its own: killing it leaves nothing behind.")]
pub(crate) struct SimulateArgs {
    /// A scenario by name, or a file.
    #[arg(required_unless_present_any = ["all", "list", "in_virtual_time"])]
    pub(crate) scenario: Vec<String>,
    /// In virtual time instead: the minds of a whole fleet, one history per seed, every invariant judged after every event.
    #[arg(long = "virtual", conflicts_with_all = ["scenario", "all", "list", "watch", "plane", "controls", "panics", "again", "strict"])]
    pub(crate) in_virtual_time: bool,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// Every scenario, in every data plane that it has.
    #[arg(long, conflicts_with = "scenario")]
    pub(crate) all: bool,
    /// With --all: a scenario to which the data plane makes no difference runs in one only, in turn.
    #[arg(long, requires = "all", conflicts_with = "plane")]
    pub(crate) once: bool,
    /// The data plane (iptables, iptables-legacy or nftables). Not stated: the scenario's first; with --all, each.
    #[arg(long, value_name = "PLANE")]
    pub(crate) plane: Option<nameward_simulations::scenario::Plane>,
    /// Name the scenarios.
    #[arg(long)]
    pub(crate) list: bool,
    /// Write the page of faults, as docs/faults.md is one, if all pass; every scenario runs in each of its data planes, and the lines of
    /// scenarios that are not run stay.
    #[arg(long, value_name = "FILE")]
    pub(crate) faults_table: Option<PathBuf>,
    /// Serve the cluster's status pages on loopback, and keep it running after the scenario, until Ctrl-C.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Check times as written; else threefold.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Run each scenario that expects a remedy once more with remedies off: the same is found, and nothing heals.
    #[arg(long)]
    pub(crate) controls: bool,
    /// Each actor of each process panics once on the way.
    #[arg(long)]
    pub(crate) panics: bool,
    /// Scenarios at once, or with --virtual threads; 0: as cores allow.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) jobs: usize,
    /// Run what did not pass once more when all others are done, and say so: on a busy machine times are not kept.
    #[arg(long, conflicts_with = "watch")]
    pub(crate) again: bool,
    /// Timeline for people or JSON for programs, one object per scenario.
    #[arg(long, short, value_enum, default_value = "text")]
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
        #[arg(long, short, value_enum, default_value = "text")]
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
#[command(after_help = "Examples:\n  nameward status\n  kubectl nameward status --context staging\n  \
nameward status --output json | jq '.nodes[] | select(.state != \"healthy\")'\n\n\
Exit status: 0 healthy, 1 a node is unhealthy or an incident is open, 2 usage or configuration,\n\
3 could not find out: no API, not installed, or fewer than 60 % of the nodes say how they are.")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Tables for people or JSON for programs.
    #[arg(long, short, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// The plan, as JSON.
    pub(crate) plan: String,
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
