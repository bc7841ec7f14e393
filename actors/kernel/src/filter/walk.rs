//! One packet through the chains of its hooks, in the order of their priorities.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::bases::{Base, bases};
use super::chains::Flow;
use super::journey::Ground;
use super::{Backend, Device, Doubt, Filters, Hook, Packet, Place, State, Step, Verdict, Walk, kube_proxy};

/// Most rules that are looked at in one walk.
const MOST_RULES: u32 = 400_000;
/// Most endpoints of one translation that are followed.
const MOST_LEGS: usize = 8;

#[derive(Clone)]
pub(super) struct Walker<'a> {
    filters: Filters<'a>,
    ground: Ground<'a>,
    pub(super) hook: Hook,
    pub(super) packet: Packet,
    pub(super) steps: Vec<Step>,
    pub(super) doubts: Vec<Doubt>,
    translated: Option<(Verdict, Place)>,
    last: Option<(Place, Option<u64>)>,
    pub(super) budget: u32,
    pub(super) tracked: bool,
}

impl<'a> Walker<'a> {
    pub(super) fn new(filters: Filters<'a>, ground: Ground<'a>, packet: Packet) -> Self {
        Self {
            filters,
            ground,
            hook: Hook::Prerouting,
            packet,
            steps: Vec::new(),
            doubts: Vec::new(),
            translated: None,
            last: None,
            budget: MOST_RULES,
            tracked: true,
        }
    }

    /// Takes the packet through the hooks. Where it is sent to one of several destinations, each is followed.
    pub(super) fn go(mut self, hooks: &[Hook], out: &mut Vec<Walk>) {
        let Some((&hook, rest)) = hooks.split_first() else {
            let (place, packets) = self.last.take().map_or((None, None), |(place, packets)| (Some(place), packets));
            out.push(self.end(Verdict::Accept, place, packets));
            return;
        };
        self.enter(hook);
        let bases = bases(&self.filters, hook, self.packet.destination.is_ipv4());
        self.through(&bases, rest, out);
    }

    fn through(mut self, bases: &[(i64, Base<'a>)], rest: &[Hook], out: &mut Vec<Walk>) {
        for (at, (priority, base)) in bases.iter().enumerate() {
            let nat = base.is_nat();
            // A flow is translated once, by its first packet; after routing it is the source's turn.
            let source = matches!(self.hook, Hook::Input | Hook::Postrouting);
            let done = self.translated.is_some() && !source;
            if nat && (done || self.packet.state == State::Established || !self.tracked) {
                continue;
            }
            let before = self.doubts.len();
            let (mut verdict, place, packets) = self.base(*base);
            self.settle(before, &mut verdict);
            if matches!(verdict, Verdict::Dnat { .. } | Verdict::Redirect { .. }) {
                let rivals = bases[at + 1..].iter().filter(|(p, other)| p == priority && other.is_nat());
                self.rivals(rivals.map(|(_, other)| *other));
            }
            match verdict {
                Verdict::Accept => {
                    if let Some(place) = place {
                        self.last = Some((place, packets));
                    }
                }
                Verdict::Dnat { to } => {
                    let Some(place) = place else { continue };
                    for to in to.iter().take(MOST_LEGS) {
                        let mut leg = self.clone();
                        leg.translate(*to, place.clone());
                        let rest = leg.onward(rest);
                        leg.through(&bases[at + 1..], &rest, out);
                    }
                    return;
                }
                Verdict::Redirect { port } => {
                    let Some(place) = place else { continue };
                    self.translated = Some((Verdict::Redirect { port }, place.clone()));
                    let own = if self.packet.destination.is_ipv4() {
                        IpAddr::V4(Ipv4Addr::LOCALHOST)
                    } else {
                        IpAddr::V6(Ipv6Addr::LOCALHOST)
                    };
                    self.packet.original = self.asked();
                    self.packet.destination = own;
                    self.packet.destination_port = port.or(self.packet.destination_port);
                    out.push(self.end(Verdict::Redirect { port }, Some(place), packets));
                    return;
                }
                gone => {
                    out.push(self.end(gone, place, packets));
                    return;
                }
            }
        }
        let rest = self.onward(rest);
        self.go(&rest, out);
    }

    /// Other chains that would translate the packet as well, and may come first.
    fn rivals(&mut self, rivals: impl Iterator<Item = Base<'a>>) {
        for rival in rivals {
            let mut other = self.clone();
            let (verdict, place, packets) = other.base(rival);
            if let (Some(place), Verdict::Dnat { .. } | Verdict::Redirect { .. }) = (place, &verdict) {
                let why = "which of two nat chains of the same priority comes first".to_owned();
                self.doubt(place, verdict, packets, why);
            }
        }
    }

    /// After routing: to this host or through it.
    fn onward(&self, rest: &[Hook]) -> Vec<Hook> {
        let local = self.ground.is_local(self.packet.destination) == Some(true);
        if self.hook == Hook::Prerouting && local { vec![Hook::Input] } else { rest.to_vec() }
    }

    fn enter(&mut self, hook: Hook) {
        self.hook = hook;
        self.packet.to_local = self.ground.is_local(self.packet.destination);
        self.packet.from_local = self.ground.is_local(self.packet.source);
        match hook {
            Hook::Prerouting | Hook::Input => self.packet.oif = Device::Absent,
            Hook::Output => {
                self.packet.iif = Device::Absent;
                self.packet.oif = self.ground.device_to(self.packet.destination);
            }
            Hook::Forward | Hook::Postrouting => self.packet.oif = self.ground.device_to(self.packet.destination),
        }
    }

    fn asked(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.packet.destination, self.packet.destination_port?))
    }

    fn translate(&mut self, to: SocketAddr, place: Place) {
        self.packet.original = self.asked();
        self.packet.destination = to.ip();
        // 0 keeps the port.
        if to.port() != 0 {
            self.packet.destination_port = Some(to.port());
        }
        self.packet.dnat = true;
        self.translated = Some((Verdict::Dnat { to: vec![to] }, place));
        self.enter(self.hook);
    }

    /// Doubts that come to the same as the chain's own end are none; endpoints that are chosen at random are all meant.
    fn settle(&mut self, before: usize, verdict: &mut Verdict) {
        if let Verdict::Dnat { to } = verdict {
            for doubt in &self.doubts[before..] {
                if let Verdict::Dnat { to: more } = &doubt.verdict
                    && doubt.why == "match statistic"
                {
                    to.extend(more.iter().copied().filter(|m| !to.contains(m)).collect::<Vec<_>>());
                }
            }
            to.sort_unstable();
            let all = to.clone();
            let mut at = 0;
            self.doubts.retain(|d| {
                at += 1;
                at <= before || !matches!(&d.verdict, Verdict::Dnat { to } if to.iter().all(|t| all.contains(t)))
            });
        }
        let mut at = 0;
        self.doubts.retain(|d| {
            at += 1;
            // A loss that is in doubt is of interest even beside another loss: which of them it was is not the same.
            at <= before || !d.verdict.like(verdict) || d.verdict.is_loss()
        });
    }

    fn end(&mut self, fate: Verdict, place: Option<Place>, packets: Option<u64>) -> Walk {
        Walk {
            fate,
            place,
            packets,
            doubts: std::mem::take(&mut self.doubts),
            steps: std::mem::take(&mut self.steps),
            translated: self.translated.take(),
            packet: self.packet.clone(),
        }
    }

    fn base(&mut self, base: Base<'a>) -> (Verdict, Option<Place>, Option<u64>) {
        match base {
            Base::Xt { backend, table, chain } => {
                let policy =
                    || Place { backend, table: table.name.clone(), chain: chain.name.clone(), rule: None, nth: 0 };
                let drop = chain.policy.as_deref() == Some("DROP");
                let packets = Some(chain.policy_packets);
                let verdict = if drop { Verdict::Drop } else { Verdict::Accept };
                match self.xt(backend, table, chain, 0, None, Some((&verdict, &policy(), packets))) {
                    Flow::End(verdict, place, packets) => (verdict, Some(place), packets),
                    Flow::Back if drop => {
                        self.note(policy(), packets, "policy drop".to_owned(), None);
                        (Verdict::Drop, Some(policy()), packets)
                    }
                    Flow::Back => (Verdict::Accept, None, None),
                }
            }
            Base::Native { table, chain } => {
                let policy = || Place {
                    backend: Backend::Nft,
                    table: table.title(),
                    chain: chain.name.clone(),
                    rule: None,
                    nth: 0,
                };
                let drop = chain.base.as_ref().is_some_and(|b| b.drop);
                let verdict = if drop { Verdict::Drop } else { Verdict::Accept };
                match self.nft(table, chain, 0, None, Some((&verdict, &policy(), None))) {
                    Flow::End(verdict, place, packets) => (verdict, Some(place), packets),
                    Flow::Back if drop => {
                        self.note(policy(), None, "policy drop".to_owned(), None);
                        (Verdict::Drop, Some(policy()), None)
                    }
                    Flow::Back => (Verdict::Accept, None, None),
                }
            }
            Base::KubeProxy { table, nat } => match kube_proxy::decide(table, self.hook, nat, &self.packet) {
                Some((place, verdict)) => {
                    self.note(place.clone(), None, verdict.to_string(), None);
                    (verdict, Some(place), None)
                }
                None => (Verdict::Accept, None, None),
            },
            Base::NotWalked { table, chain } => {
                let place = Place {
                    backend: Backend::Nft,
                    table: table.title(),
                    chain: chain.name.clone(),
                    rule: None,
                    nth: 0,
                };
                self.doubt(place, Verdict::Drop, None, format!("chains of family {} are not modelled", table.family));
                (Verdict::Accept, None, None)
            }
        }
    }
}
