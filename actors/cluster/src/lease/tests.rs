#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Rules {
        lease_duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
        call_timeout: Duration::from_secs(4),
    }
}

fn at(seconds: u64) -> Now {
    Now::at(Duration::from_secs(seconds))
}

/// A server that knows one Lease.
#[derive(Default)]
struct Server {
    record: Option<Record>,
    version: u64,
}

impl Server {
    fn apply(&mut self, call: &Call) -> CallResult {
        let current = self.record.as_ref().map(|record| record.resource_version.clone());
        let write = match call {
            Call::Get => return self.record.clone().map_or(CallResult::Absent, CallResult::Record),
            Call::Create(_) if current.is_some() => return CallResult::Conflict,
            Call::Replace(record) if current.as_ref() != Some(&record.resource_version) => return CallResult::Conflict,
            Call::Create(record) | Call::Replace(record) => record,
        };
        self.version += 1;
        self.record = Some(Record { resource_version: self.version.to_string(), ..write.clone() });
        CallResult::Record(self.record.clone().unwrap())
    }
}

/// Polls and answers at once until nothing is asked any more.
fn run(election: &mut Election, server: &mut Server, now: Now) {
    let mut asked = election.poll(now);
    while let Some(Asked { serial, call }) = asked {
        let result = server.apply(&call);
        asked = election.done(now, serial, result);
    }
}

#[test]
fn the_first_one_leads_and_renews_and_the_second_waits() {
    let (mut a, mut b, mut server) =
        (Election::new("a", rules(), 1), Election::new("b", rules(), 2), Server::default());
    for second in 0..60 {
        run(&mut a, &mut server, at(100 + second));
        run(&mut b, &mut server, at(5 + second));
        assert!(a.leads(at(100 + second).mono) && a.may_act(at(100 + second).mono));
        assert!(!b.leads(at(5 + second).mono));
        assert_eq!(b.holder(), Some("a"));
    }
    assert_eq!(server.record.as_ref().unwrap().transitions, 0);
}

#[test]
fn a_silent_leader_is_replaced_after_the_lease_ran_out_by_our_own_clock() {
    let (mut a, mut b, mut server) =
        (Election::new("a", rules(), 1), Election::new("b", rules(), 2), Server::default());
    run(&mut a, &mut server, at(0));
    run(&mut b, &mut server, at(1000));
    for second in 1000..1015 {
        run(&mut b, &mut server, at(second));
        assert!(!b.leads(at(second).mono), "{second}");
    }
    run(&mut b, &mut server, at(1018));
    assert!(b.leads(at(1018).mono));
    assert_eq!(server.record.as_ref().unwrap().transitions, 1);
    run(&mut a, &mut server, at(30));
    assert!(!a.leads(at(30).mono));
    assert_eq!(a.holder(), Some("b"));
}

#[test]
fn a_given_up_lease_is_taken_at_once() {
    let (mut a, mut b, mut server) =
        (Election::new("a", rules(), 1), Election::new("b", rules(), 2), Server::default());
    run(&mut a, &mut server, at(0));
    run(&mut b, &mut server, at(0));
    let release = a.release(at(1)).unwrap();
    server.apply(&release);
    assert!(!a.may_act(at(1).mono));
    run(&mut b, &mut server, at(3));
    assert!(b.leads(at(3).mono));
    assert_eq!(a.release(at(4)), None, "who does not lead has nothing to give up");
}

#[test]
fn a_late_reply_counts_from_before_its_request() {
    let (mut a, mut server) = (Election::new("a", rules(), 1), Server::default());
    run(&mut a, &mut server, at(0));
    let asked = a.poll(at(3)).unwrap();
    let result = server.apply(&asked.call);
    a.done(at(7), asked.serial, result);
    assert!(a.may_act(at(8).mono), "renewed at 3, window 6 s");
    assert!(!a.may_act(at(9).mono));
    assert!(a.leads(at(12).mono));
    assert!(!a.leads(at(13).mono));
}

#[test]
fn a_reply_that_comes_after_it_was_given_up_proves_nothing() {
    let mut a = Election::new("a", rules(), 1);
    let first = a.poll(at(0)).unwrap();
    let second = a.poll(at(20)).unwrap();
    assert_ne!(first.serial, second.serial);
    let ours = Record { holder: "a".into(), resource_version: "1".into(), ..Record::default() };
    assert_eq!(a.done(at(21), first.serial, CallResult::Record(ours)), None);
    assert!(!a.leads(at(21).mono));
}

struct Claimant {
    election: Election,
    offset: u64,
    rate: f64,
    /// (real time of the reply, serial, result)
    reply: Option<(u64, u64, CallResult)>,
    /// (real time at which the server applies it, the call, whether the reply is in time, reply at)
    pending: Vec<(u64, Asked, u64, bool)>,
    acting_until: u64,
}

impl Claimant {
    fn local(&self, real_ms: u64) -> Now {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a test"
        )]
        let elapsed = (real_ms as f64 * self.rate) as u64;
        Now::at(Duration::from_millis(self.offset + elapsed))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Delays, hangs and late commits of calls, clocks that differ at will in reading and by a quarter in rate: never do two
    /// act at once, where an act lasts for the whole call time-out after it was permitted.
    #[test]
    fn two_claimants_never_act_at_once(
        offsets in prop::array::uniform2(0u64..1_000_000),
        rates in prop::array::uniform2(0.9f64..1.12),
        delays in prop::collection::vec((0u64..9_000, 0u64..3_000), 40..120),
        quick in 0u64..100,
    ) {
        let mut server = Server::default();
        let mut claimants: Vec<Claimant> = [0, 1].map(|i: usize| Claimant {
            election: Election::new(["a", "b"][i], rules(), i as u64),
            offset: offsets[i], rate: rates[i], reply: None, pending: Vec::new(), acting_until: 0,
        }).into_iter().collect();
        let mut drawn = delays.iter().cycle();
        let mut led = 0;
        for real in (0..240_000u64).step_by(100) {
            for claimant in &mut claimants {
                let now = claimant.local(real);
                let due: Vec<_> = claimant.pending.extract_if(.., |(when, ..)| *when <= real).collect();
                for (_, asked, reply_at, in_time) in due {
                    let result = server.apply(&asked.call);
                    if in_time { claimant.reply = Some((reply_at, asked.serial, result)); }
                }
                let mut asked = None;
                if let Some((_, serial, result)) = claimant.reply.take_if(|(when, ..)| *when <= real) {
                    asked = claimant.election.done(now, serial, result);
                }
                let asked = asked.or_else(|| claimant.election.poll(now));
                if let Some(asked) = asked {
                    let (there, back) = *drawn.next().unwrap();
                    // Most calls are quick, as in life.
                    let (there, back) = if (there + back) % 100 < quick { (there % 200, back % 200) } else { (there, back) };
                    let in_time = there + back < 3_500;
                    if !in_time {
                        claimant.reply = Some((real + 3_500, asked.serial, CallResult::Failed("timed out".into())));
                    }
                    claimant.pending.push((real + there, asked, real + there + back, in_time));
                }
                if claimant.election.may_act(claimant.local(real).mono) {
                    led += 1;
                    claimant.acting_until = real + 3_500;
                }
            }
            let acting = claimants.iter().filter(|claimant| claimant.acting_until > real).count();
            prop_assert!(acting <= 1, "two act at {real} ms");
        }
        prop_assert!(quick < 90 || led > 0, "with quick calls somebody leads");
    }
}
