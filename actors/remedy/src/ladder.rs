//! What stands on the ladder of a cause. The ladders themselves are data: [`nameward_config::ladders`].

use nameward_config::ladders::built_in;
use nameward_config::settings::Remedy;
use nameward_messages::remedy::RemedyKind;
use nameward_messages::verdict::Cause;

/// Whether a shared remedy stands on the ladder of a cause, whatever is configured.
#[must_use]
pub fn allows(cause: Cause, kind: RemedyKind) -> bool {
    kind.shared() && built_in(cause).contains(&kind)
}

/// The node remedy of a cause, if it has one, whatever is configured.
#[must_use]
pub fn node_remedy(cause: Cause) -> Option<RemedyKind> {
    of_node(built_in(cause))
}

/// The node remedy of a cause that the configuration has left on its ladder.
#[must_use]
pub fn node_rung(settings: &Remedy, cause: Cause) -> Option<RemedyKind> {
    of_node(&settings.ladder(cause))
}

fn of_node(rungs: &[RemedyKind]) -> Option<RemedyKind> {
    rungs.iter().copied().find(|kind| !kind.shared() && *kind != RemedyKind::CallPerson)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_has_acts_of_the_coordinator_or_of_its_node_and_not_both() {
        for cause in Cause::ALL {
            let shared = RemedyKind::ALL.into_iter().any(|kind| allows(*cause, kind));
            assert!(!(shared && node_remedy(*cause).is_some()), "{cause}");
        }
        assert_eq!(node_remedy(Cause::ServiceRulesMissing), None, "kube-proxy is the coordinator's to restart");
    }

    #[test]
    fn a_rung_that_was_left_out_is_not_there() {
        let mut settings = Remedy::default();
        assert_eq!(node_rung(&settings, Cause::VethDown), Some(RemedyKind::SetLinkUp));
        settings.ladders.insert(Cause::VethDown, vec![]);
        assert_eq!(node_rung(&settings, Cause::VethDown), None);
    }
}
