//! Each guard taken away in turn: the checker finds what it guarded, within a bounded number of seeds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use nameward_fleet::{Invariant, Sabotage, Settings, seeds};

/// Seeds within which each must be found.
const WITHIN: u64 = 12;

fn found(sabotage: Sabotage, expected: &[Invariant]) {
    let mut at = None;
    let mut others = Vec::new();
    let trace = std::env::var_os("NAMEWARD_TRACE").is_some();
    seeds(0, WITHIN, Settings { nodes: None, trace, sabotage }, |outcome| {
        for line in outcome.trace.iter().filter(|_| trace) {
            eprintln!("{line}");
        }
        if outcome.violations.iter().any(|violation| expected.contains(&violation.invariant)) {
            at = Some(outcome.seed);
        } else {
            others.extend(outcome.violations.iter().map(|v| (outcome.seed, v.to_string())));
        }
        at.is_none()
    });
    eprintln!("{sabotage:?}: found at seed {at:?}; others {others:?}");
    assert!(at.is_some(), "{sabotage:?} is not found within {WITHIN} seeds; others: {others:?}");
}

macro_rules! each {
    ($($name:ident: $sabotage:ident finds $($invariant:ident)or+;)+) => {
        $(#[test]
        fn $name() {
            found(Sabotage::$sabotage, &[$(Invariant::$invariant),+]);
        })+
    };
}

each! {
    i1_witnesses: FewNodes finds I1;
    i2_storms: OneSickNode finds I2;
    i3_good_pods: AllOthersGood finds I3;
    i4_floor: MoreReady finds I4;
    i5_quorum: FreshReports finds I5;
    i6_vouching: AllVouch finds I6;
    i7_one_slot: AloneInTheWorld finds I7;
    i8_lease: EternalLease finds I8;
    i9_preconditions: NoPreconditions finds I9;
    i10_read_first: ActsAgain finds I10;
    i11_budget: NoBudget finds I11;
    i12_cool_down: NoCoolDown finds I12;
    i13_breaker: NoBreaker finds I13;
    i14_old_views: OldViewLooksNew finds I14;
    i15_journal: NoJournal finds I15;
    i16_journal_read: JournalUnread finds I16;
    i17_owners: NoOwnerNoCap finds I17;
    i18_strangers: WrongPod finds I18;
    i20_kill_switch: NoKillSwitch finds I20;
    liveness: NobodyIsCalled finds Liveness;
}
