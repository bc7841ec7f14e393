//! `nameward diagnose`: explains the DNS of one pod, one network namespace or the node itself.
//!
//! It runs the agent's own watcher, netns and prober without anything that writes, asks every kind of question from the
//! one vantage, reads twice, lets the rules judge, and tells what it saw.

mod alone;
mod list;
mod reads;
mod report;
mod subject;
mod survey;
mod text;
mod way;
mod ways;

use std::sync::Arc;
use std::time::Duration;

use nameward_config::settings::Config;
use nameward_kernel::capability::Capabilities;
use nameward_supervision::{RestartBudget, Supervisor};

use crate::check;
use crate::cli::{DiagnoseArgs, Output};
use crate::config::configure;
use crate::exit::{Failure, Found};
use crate::logging::Log;
use crate::wiring::Around;
use crate::{output, run};

use report::Report;
use subject::Wanted;

pub(crate) fn diagnose(args: &DiagnoseArgs) -> Result<Found, Failure> {
    if args.list_causes {
        list::causes(args.output);
        return Ok(Found::Healthy);
    }
    let form = args.output;
    let wanted = Wanted::parse(args.subject.as_deref().filter(|_| !args.host));
    let outcome = wanted.and_then(|wanted| {
        let (_, config, warnings) = configure(&args.cluster)?;
        Log::start_quietly(&config, &args.cluster)?;
        warnings.iter().for_each(|warning| output::error(&format!("nameward: warning: {warning}")));
        nameward_supervision::run(move || explain(config, wanted, form))
            .map_err(|e| Failure::could_not("the threads of the process cannot be started", e))?
    });
    if let (Err(failure), Output::Json) = (&outcome, form) {
        // Programs get one object in any case.
        output::json(&serde_json::json!({"healthy": null, "error": failure.json()}));
    }
    outcome
}

async fn explain(mut config: Config, wanted: Wanted, form: Output) -> Result<Found, Failure> {
    // Rounds follow one another as fast as confirmation allows: this is asked once, by a person who waits.
    config.probe.interval = nameward_config::Period::secs(1).max(config.probe.timeout);
    let node = run::node_name(&config)?;
    let pool = run::pool()?;
    let capabilities = Capabilities::find(&pool);
    let losses = capabilities.losses();
    if form == Output::Text {
        losses.iter().for_each(|loss| output::error(&format!("nameward: {loss}")));
    }
    let place = wanted.place(&pool, &node, capabilities.enter).await?;

    // Without a kubeconfig, or with an API that does not answer, what the node itself knows must do.
    let connected = match run::connect(&config).await {
        Ok(connection) => check::answers(&connection).await.map(|()| connection),
        Err(failure) => Err(failure),
    };
    let around = Around { config: Arc::new(config), node, pool };
    let mut supervisor = Supervisor::new(RestartBudget::default());
    let surveyed = survey::survey(&mut supervisor, &around, &place, connected).await;
    supervisor.drain(Duration::from_secs(1)).await;
    let surveyed = surveyed?;

    let report = Report::of(&surveyed, &around.config, losses);
    let found = report.found();
    match form {
        // One object in any case: what could not be found out is told by its error.
        Output::Json if found.is_ok() => output::json(&report),
        Output::Json => {}
        Output::Text => output::line(&text::text(&report, output::width())),
    }
    found
}

/// What a person who waits may know, on standard error.
fn progress(text: &str) {
    output::error(&format!("nameward: {text}"));
}
