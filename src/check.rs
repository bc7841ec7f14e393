//! `nameward check`: asks once from here and says what is wrong.
//!
//! It runs the agent's own actors (watcher, netns, prober, diagnosis) without anything that writes, until every path was
//! asked and what failed is named, or nothing more can be found out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comfy_table::Table;
use nameward_config::settings::Config;
use nameward_kernel::capability::Capabilities;
use nameward_messages::health::Stage;
use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::probe::{Observation, PathKey, ProberTells, Purpose};
use nameward_messages::targets::Targets;
use nameward_messages::verdict::{Cause, Deferral, DiagnosisTells, Verdict, VerdictKey};
use nameward_supervision::{Listener, RestartBudget, Supervisor, clock};
use nameward_watcher::{Role, Tell};

use crate::cli::{CheckArgs, Output};
use crate::exit::{Failure, Found};
use crate::wiring::{self, Ears, Parts};
use crate::{output, run};

/// How long the API may take to name anything to ask.
const FIRST_ANSWER: Duration = Duration::from_secs(12);
/// How long what fails may take to be named: confirmation, two samples, and the wait of `unexplained`.
const NAMING: Duration = Duration::from_secs(30);
/// How often what was found is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What was heard so far.
#[derive(Debug, Default)]
struct Heard {
    targets: Option<Arc<Targets>>,
    trouble: Option<String>,
    namespaces: BTreeMap<String, ()>,
    rounds: u64,
    paths: BTreeMap<PathKey, Observation>,
    suspected: BTreeMap<PathKey, ()>,
    verdicts: BTreeMap<VerdictKey, Verdict>,
    deferred: Vec<Deferral>,
}

pub(crate) fn check(args: &CheckArgs) -> Result<Found, Failure> {
    let (_, config, _) = run::configure(&args.cluster)?;
    let form = args.output;
    nameward_supervision::run(move || ask(config, form))
        .map_err(|e| Failure::could_not("the threads of the process cannot be started", e))?
}

async fn ask(mut config: Config, form: Output) -> Result<Found, Failure> {
    // Rounds follow one another as fast as confirmation allows: this is asked once, by a person who waits.
    config.probe.interval = nameward_config::Period::secs(1).max(config.probe.timeout);
    let node = run::node_name(&config)?;
    let connection = nameward_cluster::connect::connect(&config.kubernetes)
        .await
        .map_err(|e| Failure::could_not("the Kubernetes API cannot be used", e))?;
    let api = connection.server.clone();
    let pool = run::pool()?;
    let losses = Capabilities::find(&pool).losses();

    let heard = Arc::new(Mutex::new(Heard::default()));
    let mut supervisor = Supervisor::new(RestartBudget::default());
    let parts = Parts { config: Arc::new(config), node: node.clone(), role: Role::Agent, connection, pool };
    wiring::start_check(&mut supervisor, &parts, ears(&heard));
    let ended = listen(&heard).await;
    supervisor.drain(Duration::from_secs(1)).await;

    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let Ended::Asked = ended else {
        let why = heard.trouble.clone().unwrap_or_else(|| "no answer".to_owned());
        return Err(Failure::could_not(
            format!(
                "nothing to ask was found within {} s at {api}; check the address, the credentials and `discovery.service`",
                FIRST_ANSWER.as_secs()
            ),
            why,
        ));
    };
    let report = Report::new(node.as_str(), &heard, losses);
    match form {
        Output::Json => output::json(&report.json()),
        Output::Text => report.print(),
    }
    if report.asked() == 0 {
        return Err(Failure::could_not("no question could be asked from here", "every vantage is lost"));
    }
    Ok(if report.healthy() { Found::Healthy } else { Found::Unhealthy })
}

enum Ended {
    /// Every path was asked.
    Asked,
    /// Nothing to ask was found.
    Nothing,
}

/// Waits until what was heard is enough to say something.
async fn listen(heard: &Arc<Mutex<Heard>>) -> Ended {
    let began = clock::now().mono;
    let mut bad_since = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = clock::now().mono;
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.rounds == 0 {
            if now.since(began) > FIRST_ANSWER {
                return Ended::Nothing;
            }
            continue;
        }
        // Namespaces are found while the first rounds run; three rounds see them all.
        if heard.suspected.is_empty() {
            bad_since = None;
            if heard.rounds >= 4 {
                return Ended::Asked;
            }
            continue;
        }
        let since = *bad_since.get_or_insert(now);
        let named = heard.verdicts.values().any(|v| v.cause != Cause::Unexplained) || !heard.deferred.is_empty();
        // A moment more, for a second cause beside the first.
        if named && now.since(since) > Duration::from_secs(6) || now.since(since) > NAMING {
            return Ended::Asked;
        }
    }
}

fn ears(heard: &Arc<Mutex<Heard>>) -> Ears {
    fn ear<T: 'static>(heard: &Arc<Mutex<Heard>>, take: impl Fn(&mut Heard, T) + Send + Sync + 'static) -> Listener<T> {
        let heard = Arc::clone(heard);
        Arc::new(move |tell| take(&mut heard.lock().unwrap_or_else(PoisonError::into_inner), tell))
    }
    Ears {
        watcher: vec![ear(heard, |heard, tell| match tell {
            Tell::Targets(targets) => heard.targets = Some(targets),
            Tell::Stage(Stage::Starting(why) | Stage::Degraded(why)) => heard.trouble = Some(why),
            Tell::Stage(Stage::Ready) => heard.trouble = None,
            Tell::Pod(_)
            | Tell::OomKilled(_)
            | Tell::Rollout(_)
            | Tell::Orders(_)
            | Tell::KillSwitch(_)
            | Tell::View(_) => {}
        })],
        netns: vec![ear(heard, |heard, change| {
            if let NamespaceChanged::Found(namespace) = change {
                heard.namespaces.insert(namespace.key.to_string(), ());
            }
        })],
        prober: vec![ear(heard, |heard, tell| match tell {
            ProberTells::Round(round) => {
                heard.rounds += u64::from(!round.observations.is_empty());
                for observation in round.observations.iter().filter(|o| o.purpose == Purpose::Round) {
                    heard.paths.insert(observation.path.clone(), observation.clone());
                }
            }
            ProberTells::Suspected(suspicion) => {
                heard.suspected.insert(suspicion.path.clone(), ());
            }
            ProberTells::Cleared { path, .. } => {
                heard.suspected.remove(&path);
            }
            ProberTells::Answer(_) => {}
        })],
        diagnosis: vec![ear(heard, |heard, tell| match tell {
            DiagnosisTells::Stands(verdict) => {
                heard.verdicts.insert(verdict.key(), verdict);
            }
            DiagnosisTells::Ended { key, .. } => {
                heard.verdicts.remove(&key);
            }
            DiagnosisTells::Deferred(deferred) => heard.deferred = deferred,
            DiagnosisTells::Matrix(_) => {}
        })],
    }
}

struct Report<'a> {
    node: &'a str,
    heard: &'a Heard,
    losses: Vec<String>,
}

impl<'a> Report<'a> {
    fn new(node: &'a str, heard: &'a Heard, losses: Vec<String>) -> Self {
        Self { node, heard, losses }
    }

    fn asked(&self) -> usize {
        self.heard.paths.values().filter(|o| o.outcome.good().is_some()).count()
    }

    fn healthy(&self) -> bool {
        self.heard.suspected.is_empty() && self.heard.verdicts.is_empty()
    }

    fn json(&self) -> serde_json::Value {
        let paths: Vec<_> = self
            .heard
            .paths
            .values()
            .map(|o| {
                serde_json::json!({
                    "vantage": o.path.vantage.to_string(), "target": o.path.target.to_string(), "transport": o.path.transport,
                    "question": o.path.question, "outcome": o.outcome.kind(), "latency_ms": o.latency.as_secs_f64() * 1e3,
                    "suspected": self.heard.suspected.contains_key(&o.path),
                })
            })
            .collect();
        let verdicts: Vec<_> = self.heard.verdicts.values().collect();
        serde_json::json!({
            "healthy": self.healthy(), "node": self.node, "namespaces": self.heard.namespaces.len(), "matrix": paths,
            "verdicts": verdicts, "deferred": self.heard.deferred, "losses": self.losses,
        })
    }

    /// Vantages by targets; a cell shows UDP and TCP, the worst of the names asked.
    fn print(&self) {
        let mut columns: Vec<String> = self.heard.paths.keys().map(|p| p.target.to_string()).collect();
        columns.sort();
        columns.dedup();
        let mut rows: BTreeMap<String, BTreeMap<&str, BTreeMap<String, &Observation>>> = BTreeMap::new();
        for (path, observation) in &self.heard.paths {
            let column = columns.iter().find(|c| **c == path.target.to_string()).map_or("", String::as_str);
            let cell = rows.entry(path.vantage.to_string()).or_default().entry(column).or_default();
            let shown = cell.entry(path.transport.to_string()).or_insert(observation);
            if observation.outcome.good() == Some(false) {
                *shown = observation;
            }
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let header = std::iter::once(format!("from {} ({} pods)", self.node, self.heard.namespaces.len()));
        table.set_header(header.chain(columns.iter().cloned()));
        for (vantage, cells) in &rows {
            let cells = columns.iter().map(|column| {
                let Some(cell) = cells.get(column.as_str()) else { return String::new() };
                let word = |transport: &str| {
                    cell.get(transport).map_or_else(
                        || "-".to_owned(),
                        |o| match o.outcome.good() {
                            Some(true) => format!("{transport} {:.1}ms", o.latency.as_secs_f64() * 1e3),
                            _ => format!("{transport} {}", o.outcome.kind().short()),
                        },
                    )
                };
                format!("{}  {}", word("udp"), word("tcp"))
            });
            table.add_row(std::iter::once(vantage.clone()).chain(cells));
        }
        output::line(&table.to_string());
        for verdict in self.heard.verdicts.values() {
            output::line("");
            output::line(&format!("{} on {} ({:?})", verdict.cause, verdict.subject, verdict.confidence));
            for e in &verdict.evidence {
                output::line(&format!("  {}: {}", e.read, e.says));
            }
            for r in &verdict.ruled_out {
                output::line(&format!("  not {}: {}", r.what, r.because));
            }
        }
        for deferral in &self.heard.deferred {
            output::line("");
            output::line(&format!(
                "{} fails from here ({}); its own node {} must judge: run `nameward check` there",
                deferral.subject, deferral.because, deferral.to_node
            ));
        }
        for loss in &self.losses {
            output::error(&format!("nameward: {loss}"));
        }
        output::line("");
        output::line(if self.healthy() {
            "DNS answers on every path asked."
        } else {
            "DNS does not answer on every path."
        });
    }
}
