//! The Prometheus registry, built from [`crate::names`] alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use nameward_messages::health::{ActorHealth, Stage};
use nameward_supervision::HealthBoard;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry as Prometheus, TextEncoder, core::Collector,
};

use crate::mind::{Labels, Output};
use crate::names::{Label, Metric, SWITCH_SOURCES, Spec, Type};

/// A definition in [`crate::names`] is one that Prometheus does not accept.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Name, help or labels are bad, or the name is taken.
    #[error("cannot define the metric {name}")]
    Define {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: prometheus::Error,
    },
    /// The text could not be written.
    #[error("cannot write the metrics as text")]
    Encode(#[source] prometheus::Error),
}

/// Every metric. Counters live here, outside the actor, and so outlive its restarts.
pub(crate) struct Registry {
    prometheus: Prometheus,
    /// Locked for every change and for every reading: nobody sees a gauge half replaced.
    families: Mutex<BTreeMap<Metric, Family>>,
}

enum Family {
    Counter(IntCounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
}

impl Registry {
    pub(crate) fn new() -> Result<Self, RegistryError> {
        let prometheus = Prometheus::new();
        let mut families = BTreeMap::new();
        for metric in Metric::ALL {
            let name = metric.spec().name;
            let family =
                Family::define(&prometheus, *metric).map_err(|source| RegistryError::Define { name, source })?;
            families.insert(*metric, family);
        }
        Ok(Self { prometheus, families: Mutex::new(families) })
    }

    /// Does what the mind decided. What is not about the registry is left alone.
    pub(crate) fn apply(&self, outputs: &[Output]) {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for output in outputs {
            match output {
                Output::Add { metric, labels, by } => {
                    if let Some(Family::Counter(counter)) = families.get(metric)
                        && let Ok(series) = counter.get_metric_with_label_values(labels)
                    {
                        series.inc_by(*by);
                    }
                }
                Output::Observe { metric, labels, seconds } => {
                    if let Some(Family::Histogram(histogram)) = families.get(metric)
                        && let Ok(series) = histogram.get_metric_with_label_values(labels)
                    {
                        seconds.iter().for_each(|value| series.observe(*value));
                    }
                }
                Output::Replace { metric, series } => replace(&families, *metric, series),
                Output::KeepPods(pods) => keep_pods(&families, pods),
                Output::Publish(_) => {}
            }
        }
    }

    /// The exposition text, with the actors as the board has them now, and whether the kill switch's file is there.
    pub(crate) fn text(&self, board: &HealthBoard, paused: Option<bool>) -> Result<String, RegistryError> {
        let gathered = {
            let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
            actors(&families, board);
            if let (Some(paused), Some(Family::Gauge(gauge))) = (paused, families.get(&Metric::KillSwitch))
                && let Ok(series) = gauge.get_metric_with_label_values(&[SWITCH_SOURCES[2]])
            {
                series.set(f64::from(u8::from(paused)));
            }
            self.prometheus.gather()
        };
        TextEncoder::new().encode_to_string(&gathered).map_err(RegistryError::Encode)
    }
}

impl Family {
    fn define(prometheus: &Prometheus, metric: Metric) -> prometheus::Result<Self> {
        let spec = metric.spec();
        let labels: Vec<&str> = spec.labels.iter().map(|label| label.name()).collect();
        let opts = Opts::new(spec.name, spec.help);
        let (family, collector): (Self, Box<dyn Collector>) = match spec.kind {
            Type::Counter => {
                let counter = IntCounterVec::new(opts, &labels)?;
                (Self::Counter(counter.clone()), Box::new(counter))
            }
            Type::Gauge => {
                let gauge = GaugeVec::new(opts, &labels)?;
                (Self::Gauge(gauge.clone()), Box::new(gauge))
            }
            Type::Histogram(buckets) => {
                let histogram = HistogramVec::new(HistogramOpts::from(opts).buckets(buckets.to_vec()), &labels)?;
                (Self::Histogram(histogram.clone()), Box::new(histogram))
            }
        };
        prometheus.register(collector)?;
        if labels.is_empty() {
            family.touch(metric);
        }
        Ok(family)
    }

    /// The labels of every series, in the order of the definition.
    fn series(&self, spec: &Spec) -> Vec<Labels> {
        let families = match self {
            Self::Counter(counter) => counter.collect(),
            Self::Gauge(gauge) => gauge.collect(),
            Self::Histogram(histogram) => histogram.collect(),
        };
        let metrics = families.iter().flat_map(|family| family.get_metric());
        let labels = |metric: &prometheus::proto::Metric| {
            let value = |label: &Label| {
                let pair = metric.get_label().iter().find(|pair| pair.name() == label.name());
                pair.map_or(Cow::Borrowed(""), |pair| Cow::Owned(pair.value().to_owned()))
            };
            spec.labels.iter().map(value).collect()
        };
        metrics.map(labels).collect()
    }

    fn remove(&self, labels: &Labels) {
        // What is not there need not be removed.
        let _ = match self {
            Self::Counter(counter) => counter.remove_label_values(labels),
            Self::Gauge(gauge) => gauge.remove_label_values(labels),
            Self::Histogram(histogram) => histogram.remove_label_values(labels),
        };
    }

    /// A counter or histogram without labels is there from the start, as zero. A gauge is not: its value is not known.
    fn touch(&self, metric: Metric) {
        let none: &[&str] = &[];
        match self {
            Self::Counter(counter) => drop(counter.get_metric_with_label_values(none)),
            Self::Histogram(histogram) => drop(histogram.get_metric_with_label_values(none)),
            Self::Gauge(gauge) => {
                let start = match metric {
                    Metric::Leader | Metric::Namespaces | Metric::SuspectedPaths | Metric::CapabilitiesMissing => 0.0,
                    Metric::ConfigGood => 1.0,
                    _ => return,
                };
                if let Ok(series) = gauge.get_metric_with_label_values(none) {
                    series.set(start);
                }
            }
        }
    }
}

fn replace(families: &BTreeMap<Metric, Family>, metric: Metric, series: &[(Labels, f64)]) {
    if let Some(Family::Gauge(gauge)) = families.get(&metric) {
        gauge.reset();
        for (labels, value) in series {
            if let Ok(one) = gauge.get_metric_with_label_values(labels) {
                one.set(*value);
            }
        }
    }
}

/// Series outlive the actor, so it is the registry that knows which there are.
fn keep_pods(families: &BTreeMap<Metric, Family>, pods: &BTreeSet<String>) {
    for (metric, family) in families {
        let spec = metric.spec();
        let Some(at) = spec.labels.iter().position(|label| *label == Label::CorednsPod) else { continue };
        let gone = |labels: &Labels| labels.get(at).is_some_and(|pod| !pods.contains(pod.as_ref()));
        family.series(&spec).iter().filter(|labels| gone(labels)).for_each(|labels| family.remove(labels));
    }
}

type Read<T> = fn(&ActorHealth) -> T;

/// Supervision counts on its own; its counters are copied whenever somebody looks.
fn actors(families: &BTreeMap<Metric, Family>, board: &HealthBoard) {
    let reports = board.reports();
    let counters: [(Metric, Read<u64>); 4] = [
        (Metric::ActorHandled, |health| health.handled),
        (Metric::ActorRestarts, |health| health.restarts),
        (Metric::ActorLost, |health| health.lost),
        (Metric::ActorShed, |health| health.shed),
    ];
    for (metric, read) in counters {
        if let Some(Family::Counter(counter)) = families.get(&metric) {
            counter.reset();
            for (name, report) in &reports {
                if let Ok(one) = counter.get_metric_with_label_values(&[name.label()]) {
                    one.inc_by(read(&report.health));
                }
            }
        }
    }
    let gauges: [(Metric, Read<f64>); 3] = [
        (Metric::ActorAlive, |health| f64::from(u8::from(health.alive))),
        (Metric::ActorWaiting, |health| u32::try_from(health.waiting).map_or(f64::from(u32::MAX), f64::from)),
        (Metric::ActorIdle, |health| health.idle.as_secs_f64()),
    ];
    for (metric, read) in gauges {
        let series: Vec<(Labels, f64)> =
            reports.iter().map(|(name, report)| (vec![name.label().into()], read(&report.health))).collect();
        replace(families, metric, &series);
    }
    let degraded: Vec<(Labels, f64)> = reports
        .iter()
        .map(|(name, report)| {
            (vec![name.label().into()], f64::from(u8::from(matches!(report.stage, Stage::Degraded(_)))))
        })
        .collect();
    replace(families, Metric::ActorDegraded, &degraded);
}
