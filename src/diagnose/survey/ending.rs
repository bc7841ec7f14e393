//! When more would not tell more, and what is made of it.

use std::collections::BTreeSet;

use nameward_diagnosis::{Judgement, judge};
use nameward_messages::verdict::Cause;
use nameward_supervision::clock;

use super::super::progress;
use super::{LONGEST, Looking, NAMING, NO_ROUNDS, ROUNDS, SECOND, Surveyed, uid_of};
use crate::exit::Failure;

impl Looking<'_> {
    fn fails(&self) -> bool {
        self.matrix.suspected().any(|(path, _)| Some(&path.vantage) == self.vantage.as_ref())
    }

    /// Whether more would not tell more.
    pub(super) fn enough(&mut self) -> bool {
        let now = clock::now().mono;
        let since = now.since(self.placed);
        if self.vantage.is_none() {
            return false;
        }
        if self.request.is_none() && since > NO_ROUNDS {
            // The rounds have nothing to ask; what the resolver names is asked in any case.
            self.ask_in_every_way();
        }
        let asked = self.answered && self.samples.len() >= 2;
        if !asked || self.api.is_err() {
            return asked || since > LONGEST;
        }
        let record = self.mind.record(clock::now());
        let judgement = judge(&record);
        let settled =
            judgement.findings.iter().any(|f| f.cause != Cause::Unexplained) || !judgement.deferred.is_empty();
        if settled {
            self.named = Some((record, judgement.clone()));
        }
        if since > LONGEST {
            return true;
        }
        if !self.fails() {
            self.bad_since = None;
            return self.rounds >= ROUNDS && judgement.waiting.is_empty() || self.rounds >= 2 * ROUNDS;
        }
        if self.bad_since.is_none() {
            progress("something fails: confirming, and reading what could be the cause");
        }
        let since = *self.bad_since.get_or_insert(now);
        let named = settled && judgement.waiting.is_empty();
        named && now.since(since) > SECOND || now.since(since) > NAMING
    }

    pub(super) fn done(self) -> Result<Surveyed, Failure> {
        let fails = self.fails();
        let Some(vantage) = self.vantage else {
            return Err(Failure::could_not("nothing was asked", "no vantage"));
        };
        let (mut record, mut judgement) = match self.api {
            Ok(_) => {
                let record = self.mind.record(clock::now());
                let judgement = judge(&record);
                (record, judgement)
            }
            Err(_) => (self.mind.record(clock::now()), Judgement::default()),
        };
        let mut recovered = BTreeSet::new();
        if let Some((old, named)) = self.named {
            let now: BTreeSet<_> = judgement.findings.iter().map(|f| f.cause).collect();
            if fails && now.iter().all(|c| *c == Cause::Unexplained) {
                // What was named a moment ago and fails still is not unexplained.
                (record, judgement) = (old, named);
            } else {
                recovered = named.findings.iter().map(|f| f.cause).filter(|c| !now.contains(c)).collect();
            }
        }
        record.targets = self.targets;
        let uid = uid_of(&vantage).cloned();
        let namespace = uid.as_ref().and_then(|uid| self.namespaces.get(uid)).cloned();
        Ok(Surveyed {
            vantage,
            namespace,
            pod: self.pod.or(uid),
            api: self.api,
            record,
            matrix: self.matrix,
            judgement,
            recovered,
            samples: self.samples,
            asked: self.asked,
            notes: self.notes,
        })
    }
}
