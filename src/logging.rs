//! The log: on standard error, so that the output of commands stays clean. Its level follows the configuration.

use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;

use nameward_config::Config;
use nameward_config::settings::LogFormat;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

use crate::cli::Cluster;
use crate::exit::Failure;

#[cfg(feature = "otel")]
mod otlp;

/// The log, set up.
pub(crate) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    #[cfg(feature = "otel")]
    export: Option<opentelemetry_sdk::logs::SdkLoggerProvider>,
}

/// What was not sent yet is sent before the process ends.
#[cfg(feature = "otel")]
impl Drop for Log {
    fn drop(&mut self) {
        let Some(Err(error)) = self.export.take().map(|export| export.shutdown()) else { return };
        tracing::warn!(%error, "the last lines may not have reached the collector");
    }
}

impl Log {
    /// Writes lines of the configured level and in the configured form from now on, panics among them.
    ///
    /// # Errors
    /// The level is no filter.
    pub(crate) fn start(config: &Config) -> Result<Self, Failure> {
        Self::start_at(&config.log.level, config.log.format)
    }

    /// The same, with what a command that people wait for may tell beside its result: errors, unless they ask for more.
    ///
    /// # Errors
    /// As [`Log::start`].
    pub(crate) fn start_quietly(config: &Config, asked: &Cluster) -> Result<Self, Failure> {
        Self::start_at(if asked.log_level.is_some() { &config.log.level } else { "error" }, config.log.format)
    }

    fn start_at(level: &str, format: LogFormat) -> Result<Self, Failure> {
        let filter = filter(level).map_err(Failure::usage)?;
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let (filter, handle) = reload::Layer::new(filter);
        #[cfg(feature = "otel")]
        let (filter, export) = match otlp::export()? {
            Some((layer, export)) => (filter.and_then(layer).boxed(), Some(export)),
            None => (filter.boxed(), None),
        };
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
        let lines = match format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        let set = tracing_subscriber::registry().with(filter).with(lines).try_init();
        set.map_err(|e| Failure::could_not("the log cannot be set up", e))?;
        std::panic::set_hook(Box::new(panicked));
        Ok(Self {
            filter: handle,
            #[cfg(feature = "otel")]
            export,
        })
    }

    /// Puts another level in force.
    ///
    /// # Errors
    /// It is no filter; the old one stays.
    pub(crate) fn level(&self, level: &str) -> Result<(), String> {
        self.filter.reload(filter(level)?).map_err(|e| format!("log.level: {e}"))
    }
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|e| format!("log.level: `{level}` is no filter: {e}"))
}

/// A panic is a line of the log like any other. What becomes of the actor is told by who rebuilds it.
fn panicked(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let thread = std::thread::current();
    tracing::error!(%place, thread = thread.name().unwrap_or("unnamed"), "panicked: {}", text.replace('\n', " | "));
}
