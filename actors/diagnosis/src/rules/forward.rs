//! What fails when a node forwards nothing for its pods, be it the policy of FORWARD or a sysctl.

use std::collections::BTreeSet;

use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{PathKey, QuestionKind};

use crate::finding::View;
use crate::matrix::Pick;

/// Everything that pods ask, and what CoreDNS pods of this node have to ask elsewhere for others.
pub(super) fn explains(view: &View<'_>) -> BTreeSet<PathKey> {
    let mut picks = vec![
        Pick { from: Some(VantageKind::Pod), ..Pick::default() },
        Pick { service: true, question: Some(QuestionKind::External), ..Pick::default() },
        Pick { service: true, question: Some(QuestionKind::Extra), ..Pick::default() },
    ];
    for pod in view.record.local_dns_pods() {
        picks.push(Pick { pod: Some(&pod.uid), question: Some(QuestionKind::External), ..Pick::default() });
        picks.push(Pick { pod: Some(&pod.uid), question: Some(QuestionKind::Extra), ..Pick::default() });
    }
    view.explained(&picks)
}
