//! One packet through one chain and those that it jumps to.

use super::walk::Walker;
use super::xtables::{self, Does, Tri};
use super::{Backend, Doubt, Place, Step, Verdict, native};
use crate::iptables::{Chain, Rule, Table};
use crate::nft::native::{NativeChain, NativeRule, NativeTable};

/// Deepest jump; the kernel's own limit is 16 for nftables.
const DEEPEST: u32 = 32;
/// Most steps that are kept.
const MOST_STEPS: usize = 200;
/// Most doubts that are kept.
const MOST_DOUBTS: usize = 32;

/// How a chain was left.
pub(super) enum Flow {
    End(Verdict, Place, Option<u64>),
    Back,
}

impl<'a> Walker<'a> {
    pub(super) fn xt(
        &mut self,
        backend: Backend,
        table: &'a Table,
        chain: &'a Chain,
        depth: u32,
        mut way: Option<String>,
        policy: Option<(&Verdict, &Place, Option<u64>)>,
    ) -> Flow {
        for (at, rule) in chain.rules.iter().enumerate() {
            if !self.spend(depth) {
                return self.too_much(xt_place(backend, table, chain, at));
            }
            let matches = xtables::matches(rule, &self.packet);
            let doubt = match matches {
                Tri::No => continue,
                Tri::Yes => None,
                Tri::Unknown(why) => Some(why),
            };
            let does = xtables::does(rule, |name| table.chain(name).is_some());
            let place = || xt_place(backend, table, chain, at);
            self.note(place(), Some(rule.packets), what(&does, rule.target.as_deref()), doubt.clone());
            let own = doubt.is_none();
            let why = doubt.or_else(|| way.clone());
            match does {
                Does::Jump(ref to) | Does::Goto(ref to) => {
                    let Some(next) = table.chain(to) else { continue };
                    let inner = self.xt(backend, table, next, depth + 1, why.clone(), None);
                    if let Some(flow) = self.came_back(inner, &does, why.as_deref(), way.is_none(), policy) {
                        return flow;
                    }
                }
                other => {
                    if let Some(flow) =
                        self.apply(other, &mut way, own, why.as_deref(), place, Some(rule.packets), policy)
                    {
                        return flow;
                    }
                }
            }
        }
        Flow::Back
    }

    pub(super) fn nft(
        &mut self,
        table: &'a NativeTable,
        chain: &'a NativeChain,
        depth: u32,
        mut way: Option<String>,
        policy: Option<(&Verdict, &Place, Option<u64>)>,
    ) -> Flow {
        for (at, rule) in chain.rules.iter().enumerate() {
            if !self.spend(depth) {
                return self.too_much(nft_place(table, chain, at));
            }
            let found = native::rule(rule, table, &self.packet);
            let doubt = match found.matches {
                Tri::No => continue,
                Tri::Yes => found.one_of,
                Tri::Unknown(why) => Some(why),
            };
            let place = || nft_place(table, chain, at);
            let says = found.does.last().map_or_else(|| "goes on".to_owned(), |d| what(d, None));
            self.note(place(), rule.packets, says, doubt.clone());
            let own = doubt.is_none();
            let why = doubt.or_else(|| way.clone());
            for does in found.does {
                match does {
                    Does::Jump(ref to) | Does::Goto(ref to) => {
                        let Some(next) = table.chain(to) else { continue };
                        let inner = self.nft(table, next, depth + 1, why.clone(), None);
                        if let Some(flow) = self.came_back(inner, &does, why.as_deref(), way.is_none(), policy) {
                            return flow;
                        }
                    }
                    other => {
                        if let Some(flow) =
                            self.apply(other, &mut way, own, why.as_deref(), place, rule.packets, policy)
                        {
                            return flow;
                        }
                    }
                }
            }
        }
        Flow::Back
    }

    /// What the way back from a chain means: `Some` ends the chain that jumped.
    fn came_back(
        &mut self,
        inner: Flow,
        does: &Does,
        why: Option<&str>,
        sure: bool,
        policy: Option<(&Verdict, &Place, Option<u64>)>,
    ) -> Option<Flow> {
        match inner {
            Flow::End(..) => Some(inner),
            // Who goes does not come back.
            Flow::Back if matches!(does, Does::Goto(_)) => {
                let Some(why) = why.filter(|_| sure) else { return Some(Flow::Back) };
                if let Some((verdict, place, packets)) = policy {
                    self.doubt(place.clone(), verdict.clone(), packets, why.to_owned());
                }
                None
            }
            Flow::Back => None,
        }
    }

    /// Does what a rule says; `Some` ends the chain. `way` is why the way to the rule is not certain, `own` whether the
    /// rule itself matches for certain, `why` why the whole is not.
    #[expect(clippy::too_many_arguments, reason = "one place for what both kinds of rules do")]
    fn apply(
        &mut self,
        does: Does,
        way: &mut Option<String>,
        own: bool,
        why: Option<&str>,
        place: impl Fn() -> Place,
        packets: Option<u64>,
        policy: Option<(&Verdict, &Place, Option<u64>)>,
    ) -> Option<Flow> {
        let Some(why) = why else {
            match does {
                Does::Decides(verdict) => return Some(Flow::End(verdict, place(), packets)),
                Does::Return => return Some(Flow::Back),
                Does::Mark { clear, set } => self.packet.mark = self.packet.mark.map(|m| (m & !clear) ^ set),
                Does::MarkUnknown => self.packet.mark = None,
                Does::NoTrack => self.tracked = false,
                Does::Nothing | Does::Jump(_) | Does::Goto(_) => {}
            }
            return None;
        };
        match does {
            Does::Decides(verdict) => {
                self.doubt(place(), verdict, packets, why.to_owned());
                // Who came this way goes no further.
                return own.then_some(Flow::Back);
            }
            Does::Return if own => return Some(Flow::Back),
            Does::Return => match policy {
                Some((verdict, place, packets)) => {
                    self.doubt(place.clone(), verdict.clone(), packets, why.to_owned());
                }
                None => *way = Some(why.to_owned()),
            },
            Does::Mark { .. } | Does::MarkUnknown => self.packet.mark = None,
            Does::NoTrack => {
                let what = Verdict::Elsewhere { what: "taken out of conntrack".to_owned() };
                self.doubt(place(), what, packets, why.to_owned());
            }
            Does::Nothing | Does::Jump(_) | Does::Goto(_) => {}
        }
        None
    }

    fn spend(&mut self, depth: u32) -> bool {
        self.budget = self.budget.saturating_sub(1);
        self.budget > 0 && depth <= DEEPEST
    }

    /// More rules than are looked at: nothing is known any more.
    fn too_much(&mut self, place: Place) -> Flow {
        let what = "more rules than are walked".to_owned();
        self.budget = 0;
        Flow::End(Verdict::Elsewhere { what }, place, None)
    }

    pub(super) fn note(&mut self, place: Place, packets: Option<u64>, does: String, doubt: Option<String>) {
        if self.steps.len() < MOST_STEPS {
            self.steps.push(Step { hook: self.hook, place, packets, does, doubt });
        }
    }

    pub(super) fn doubt(&mut self, place: Place, verdict: Verdict, packets: Option<u64>, why: String) {
        if self.doubts.len() < MOST_DOUBTS {
            self.doubts.push(Doubt { place, verdict, packets, why });
        }
    }
}

fn what(does: &Does, target: Option<&str>) -> String {
    match does {
        Does::Nothing => target.unwrap_or("goes on").to_owned(),
        Does::Decides(verdict) => verdict.to_string(),
        Does::Return => "return".to_owned(),
        Does::Jump(to) => format!("jump {to}"),
        Does::Goto(to) => format!("goto {to}"),
        Does::Mark { set, .. } => format!("mark {set:#x}"),
        Does::MarkUnknown => "changes the mark".to_owned(),
        Does::NoTrack => "takes it out of conntrack".to_owned(),
    }
}

fn nth<T: PartialEq>(items: &[T], at: usize, same: impl Fn(&T, &T) -> bool) -> u32 {
    let count = items[..at].iter().filter(|one| same(one, &items[at])).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn xt_place(backend: Backend, table: &Table, chain: &Chain, at: usize) -> Place {
    Place {
        backend,
        table: table.name.clone(),
        chain: chain.name.clone(),
        rule: Some(chain.rules[at].text()),
        nth: nth(&chain.rules, at, |a: &Rule, b: &Rule| a.words == b.words),
    }
}

pub(super) fn nft_place(table: &NativeTable, chain: &NativeChain, at: usize) -> Place {
    Place {
        backend: Backend::Nft,
        table: table.title(),
        chain: chain.name.clone(),
        rule: Some(chain.rules[at].text.clone()),
        nth: nth(&chain.rules, at, |a: &NativeRule, b: &NativeRule| a.text == b.text),
    }
}
