//! `nameward ask`, hidden: what a probe pod runs. It asks what it is given, once, needs no API, and tells what came of it.

use std::fs::OpenOptions;
use std::io::Write as _;

use nameward_outside::asking::{Answers, Plan};
use nameward_outside::pods::TERMINATION_LOG;

use crate::cli::AskArgs;
use crate::exit::{Failure, Found};
use crate::output;

pub(crate) fn ask(args: &AskArgs) -> Result<Found, Failure> {
    let plan = Plan::parse(&args.plan).map_err(|e| Failure::usage_by(&e))?;
    let answers = nameward_supervision::run(move || async move { nameward_outside::ask::ask(&plan).await })
        .map_err(|e| Failure::could_not("the threads of the process cannot be started", e))?;
    let text = serde_json::to_string(&Answers::of(&answers))
        .map_err(|e| Failure::could_not("the answers cannot be written as JSON", e))?;
    output::line(&text);
    // Outside of a pod there is no such file, and none is made.
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(TERMINATION_LOG) {
        file.write_all(text.as_bytes())
            .map_err(|e| Failure::could_not(format!("the answers cannot be left in {TERMINATION_LOG}"), e))?;
    }
    // What was found is told; that it was found out is a success.
    Ok(Found::Healthy)
}
