//! `nameward check`: asks once from here and says what is wrong.
//!
//! It runs the agent's own actors (watcher, netns, prober, diagnosis) without anything that writes, until every path was
//! asked and what failed is named, or nothing more can be found out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nameward_cluster::calls::Cause;
use nameward_cluster::connect::Connection;
use nameward_cluster::failure::Class;
use nameward_config::settings::Config;
use nameward_kernel::capability::Capabilities;
use nameward_messages::health::Stage;
use nameward_messages::namespaces::{NamespaceChanged, Vantage};
use nameward_messages::probe::{Observation, PathKey, ProberTells, Purpose};
use nameward_messages::verdict::{self, Deferral, DiagnosisTells, Verdict, VerdictKey};
use nameward_outside::place::Place;
use nameward_supervision::{Listener, RestartBudget, Supervisor, clock};
use nameward_watcher::{Role, Tell};

use crate::cli::{self, CheckArgs, Output};
use crate::config::configure;
use crate::exit::{Failure, Found};
use crate::logging::Log;
use crate::report::Report;
use crate::wiring::{self, Ears, Parts};
use crate::{output, outside, run};

/// How long the API may take to name anything to ask.
const FIRST_ANSWER: Duration = Duration::from_secs(12);
/// How long what fails may take to be named: confirmation, two samples, and the wait of `unexplained` or for kube-proxy, which are
/// counted from when this process was first told of the endpoints.
const NAMING: Duration = Duration::from_secs(45);
/// How often what was found is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What was heard so far.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    trouble: Option<String>,
    rounds: u64,
    /// Pods are to be judged although no path fails.
    misfits: bool,
    pub(crate) namespaces: BTreeMap<String, ()>,
    pub(crate) paths: BTreeMap<PathKey, Observation>,
    pub(crate) suspected: BTreeMap<PathKey, ()>,
    pub(crate) verdicts: BTreeMap<VerdictKey, Verdict>,
    pub(crate) deferred: Vec<Deferral>,
}

pub(crate) fn check(args: &CheckArgs) -> Result<Found, Failure> {
    let (form, from) = (args.output, args.outside.clone());
    let outcome = configure(&args.cluster).and_then(|(_, config, warnings)| {
        Log::start_quietly(&config, &args.cluster)?;
        warnings.iter().for_each(|warning| output::error(&format!("nameward: warning: {warning}")));
        nameward_supervision::run(move || ask(config, form, from))
            .map_err(|e| Failure::could_not("the threads of the process cannot be started", e))?
    });
    if let (Err(failure), Output::Json) = (&outcome, form) {
        // Programs get one object in any case.
        failure.tell();
    }
    outcome
}

async fn ask(mut config: Config, form: Output, from: cli::Outside) -> Result<Found, Failure> {
    // Rounds follow one another as fast as confirmation allows: this is asked once, by a person who waits.
    config.probe.interval = nameward_config::Period::secs(1).max(config.probe.timeout);
    let node = run::node_name(&config)?;
    let connection = run::connect(&config).await?;
    let api = connection.server.clone();
    let pool = run::pool()?;
    let losses = Capabilities::find(&pool).losses();
    let answered = answers(&connection).await;
    if answered.is_ok() && outside::stands(&connection, &config, &from).await == Place::Outside {
        return outside::check(&connection, &config, form, &from).await;
    }
    if form == Output::Text {
        losses.iter().for_each(|loss| output::error(&format!("nameward: {loss}")));
    }
    answered?;

    let heard = Arc::new(Mutex::new(Heard::default()));
    let mut supervisor = Supervisor::new(RestartBudget::default());
    let parts = Parts { config: Arc::new(config), node: node.clone(), role: Role::Agent, connection, pool };
    wiring::start_check(&mut supervisor, &parts, ears(&heard));
    let ended = listen(&heard).await;
    supervisor.drain(Duration::from_secs(1)).await;

    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    if ended == Ended::Nothing {
        let within = FIRST_ANSWER.as_secs();
        let why = heard.trouble.clone().unwrap_or_else(|| "no answer".to_owned());
        return Err(Failure::could_not(
            format!(
                "nothing to ask was found at {api} within {within} s; check the credentials, their rights and `discovery.service`"
            ),
            why,
        ));
    }
    let report = Report { node: node.as_str(), heard: &heard, losses: &losses };
    if report.asked() == 0 {
        let host = heard.paths.values().find(|o| o.path.vantage == Vantage::Host);
        let why = host.map_or_else(|| "every vantage is lost".to_owned(), |o| format!("{:?}", o.outcome));
        return Err(Failure::could_not("no question could be asked from here", why));
    }
    match form {
        Output::Json => output::json(&report.json()),
        Output::Text => output::line(&report.text(output::width())),
    }
    Ok(if report.healthy() { Found::Healthy } else { Found::Unhealthy })
}

/// Finds out at once, and not after the actors' patience, that there is nobody to ask what to ask.
pub(crate) async fn answers(connection: &Connection) -> Result<(), Failure> {
    let Err(error) = connection.cluster.version().await else { return Ok(()) };
    let server = &connection.server;
    let what = match (&error.class, &*error.cause) {
        (Class::Unreachable, _) => format!(
            "the Kubernetes API at {server} cannot be reached; check the address in the kubeconfig, and the way to it from here"
        ),
        (_, Cause::Answer(answer)) if answer.code == 401 => {
            format!("the Kubernetes API at {server} does not know this user; check the credentials in the kubeconfig")
        }
        (Class::NotFound | Class::Invalid, _) => {
            format!("what answers at {server} is no Kubernetes API; check the address in the kubeconfig")
        }
        // Another refusal is an answer: what this user may not read is told by the watcher.
        _ => return Ok(()),
    };
    Err(Failure::could_not(what, *error.cause))
}

#[derive(PartialEq, Eq)]
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
            // A pod that is to be judged without a failing path takes a few rounds more.
            let judged = !heard.misfits || !heard.verdicts.is_empty() || heard.rounds >= 12;
            if heard.rounds >= 4 && judged {
                return Ended::Asked;
            }
            continue;
        }
        let since = *bad_since.get_or_insert(now);
        let named =
            heard.verdicts.values().any(|v| v.cause != verdict::Cause::Unexplained) || !heard.deferred.is_empty();
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
            Tell::Stage(Stage::Starting(why) | Stage::Degraded(why)) => heard.trouble = Some(why),
            Tell::Stage(Stage::Ready) => heard.trouble = None,
            Tell::Misfits(pods) => heard.misfits = !pods.is_empty(),
            Tell::Targets(_)
            | Tell::Pod(_)
            | Tell::OomKilled(_)
            | Tell::Coredns(_)
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
            DiagnosisTells::Matrix(_)
            | DiagnosisTells::Examined(_)
            | DiagnosisTells::Unmodelled(_)
            | DiagnosisTells::Recovered(_)
            | DiagnosisTells::Way { .. } => {}
        })],
    }
}
