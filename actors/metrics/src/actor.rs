//! The actor: gives the mind what it is told and the pages what the mind decides.

use nameward_config::Config;
use nameward_messages::Mono;
use nameward_supervision::{Actor, Context, clock};

use crate::input::MetricsInput;
use crate::mind::{MetricsMind, Output};
use crate::pages::Pages;

/// The metrics actor. It tells nobody; see [`Pages`] for where its decisions go.
#[derive(Debug)]
pub struct MetricsActor {
    mind: MetricsMind,
    pages: Pages,
    out: Vec<Output>,
}

impl MetricsActor {
    /// An actor that changes these pages.
    #[must_use]
    pub fn new(config: &Config, pages: Pages) -> Self {
        pages.open_state(config.metrics.open_state);
        let mind = MetricsMind::new(clock::now(), pages.node(), config);
        Self { mind, pages, out: Vec::new() }
    }

    fn step(&mut self, input: MetricsInput, ctx: &Context<Self>) {
        if let MetricsInput::Reconfigure(config) = &input {
            self.pages.open_state(config.metrics.open_state);
        }
        self.mind.step(ctx.now(), input, &mut self.out);
        self.pages.apply(&self.out);
        self.out.clear();
    }
}

impl Actor for MetricsActor {
    type Message = MetricsInput;

    fn handle(&mut self, message: MetricsInput, ctx: &Context<Self>) {
        self.step(message, ctx);
    }

    fn deadline(&self) -> Option<Mono> {
        self.mind.deadline()
    }

    fn tick(&mut self, ctx: &Context<Self>) {
        self.step(MetricsInput::Tick, ctx);
    }
}
