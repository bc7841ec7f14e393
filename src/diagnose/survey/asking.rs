//! What is asked from the vantage, what came of it, and what is read of it.

use std::time::Duration;

use nameward_diagnosis::Input;
use nameward_messages::PodUid;
use nameward_messages::probe::{Observation, ProberTells, Purpose};
use nameward_prober::actor::ProberMessage;
use nameward_supervision::clock;

use super::super::ways;
use super::{Looking, OWN, Tally, uid_of};

impl Looking<'_> {
    pub(super) fn take_probes(&mut self, tells: ProberTells) {
        match &tells {
            ProberTells::Round(round) => {
                self.matrix.round(round);
                let before = self.asked.len();
                for observation in round.observations.iter().filter(|o| o.purpose == Purpose::Round) {
                    self.tally(observation);
                }
                let ours = round.observations.iter().any(|o| Some(&o.path.vantage) == self.vantage.as_ref());
                self.rounds += u32::from(ours);
                if ours && before != self.asked.len() && self.rounds > 1 {
                    // More came to be known: it is asked for as often as the rest.
                    self.rounds = 1;
                }
            }
            ProberTells::Suspected(suspicion) => self.matrix.suspect(suspicion),
            ProberTells::Cleared { path, recovered, .. } => self.matrix.clear(path, *recovered),
            ProberTells::Answer(answer) if Some(&answer.id) == self.request.as_ref() => {
                self.answered = true;
                answer.observations.iter().for_each(|observation| self.tally(observation));
            }
            ProberTells::Answer(_) => {}
        }
        self.step(Input::Prober(tells));
        if self.request.is_none() && self.rounds > 0 {
            self.ask_in_every_way();
        }
    }

    fn tally(&mut self, seen: &Observation) {
        if Some(&seen.path.vantage) != self.vantage.as_ref() {
            return;
        }
        let bad = seen.outcome.good() != Some(true);
        let entry = self.asked.entry((seen.path.clone(), ways::way(&seen.purpose))).or_insert_with(|| Tally {
            asked: 0,
            failed: 0,
            last: seen.clone(),
            slowest: Duration::ZERO,
        });
        entry.asked += 1;
        entry.failed += u32::from(bad);
        entry.slowest = entry.slowest.max(seen.latency);
        if bad || entry.last.outcome.good() == Some(true) {
            entry.last = seen.clone();
        }
    }

    pub(super) fn ask_in_every_way(&mut self) {
        let Some(vantage) = &self.vantage else { return };
        let resolv = uid_of(vantage).and_then(|uid| self.namespaces.get(uid)).map(|n| n.resolv.nameservers.clone());
        let servers = resolv.or_else(|| self.samples.first()?.host.nameservers.value().cloned()).unwrap_or_default();
        let external = !self.around.config.probe.external_name.is_empty();
        let items = ways::items(vantage, self.asked.values().map(|t| &t.last), &servers, external);
        let request = ways::request(clock::now().mono, items);
        self.request = Some(request.id.clone());
        self.prober.tell(ProberMessage::Request(request));
    }

    /// Our own readings of the vantage, whether it fails or not.
    pub(super) fn read_next(&mut self) {
        let Some(vantage) = &self.vantage else { return };
        let now = clock::now().mono;
        if self.reading || self.samples.len() >= 2 || now < self.next_sample {
            return;
        }
        let own = uid_of(vantage).cloned();
        let dns = self.targets.pods.iter().map(|pod| pod.uid.clone());
        let pods: Vec<PodUid> = own.into_iter().chain(dns).collect();
        let want = self.mind.want_about(OWN, &pods);
        self.reading = true;
        self.read(want);
    }
}
