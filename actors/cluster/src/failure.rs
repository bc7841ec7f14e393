//! What kind of failure a call met: what the asker can do about it.

use std::time::Duration;

/// Kinds of failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// 409: the precondition (uid or `resourceVersion`) no longer holds, or the object exists already. Read again.
    Conflict,
    /// 404.
    NotFound,
    /// 401 or 403: a permission is missing.
    Forbidden,
    /// 429: a disruption budget forbids it, or the API server throttles.
    TooMany {
        /// When to try again, if it said so.
        retry_after: Option<Duration>,
        /// A disruption budget forbids it; else the API server throttles.
        budget: bool,
    },
    /// 500: more than one budget selects the pod, so that no eviction can succeed. A person must remove one.
    TwoBudgets,
    /// 400, 413, 415, 422: the API server will never accept this.
    Invalid,
    /// Nothing was changed: the API server was not reached, or nothing but a read was asked.
    Unreachable,
    /// The request was sent and no trustworthy answer came: it may have been done. Read the target; never repeat blindly.
    OutcomeUnknown,
}

impl Class {
    /// The class of an answer by its status code, message and details.
    #[must_use]
    pub fn of_answer(code: u16, message: &str, budget_cause: bool, retry_after_s: u32) -> Self {
        match code {
            409 | 412 => Self::Conflict,
            404 | 410 => Self::NotFound,
            401 | 403 => Self::Forbidden,
            429 => Self::TooMany {
                retry_after: (retry_after_s > 0).then(|| Duration::from_secs(u64::from(retry_after_s))),
                budget: budget_cause || message.contains("disruption budget"),
            },
            500 if message.contains("more than one PodDisruptionBudget") => Self::TwoBudgets,
            // A proxy's, or the server's own, while the request was under way.
            408 | 499 => Self::OutcomeUnknown,
            400..=499 => Self::Invalid,
            // 500, 502, 503 and 504 may come after the change was committed (a lost reply of etcd or of a proxy).
            _ => Self::OutcomeUnknown,
        }
    }

    /// For a call that only reads there is no outcome to wonder about.
    #[must_use]
    pub fn of_a_read(self) -> Self {
        if self == Self::OutcomeUnknown { Self::Unreachable } else { self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::pair;

    #[test]
    fn every_recorded_refusal_has_its_class() {
        let budget = Class::TooMany { retry_after: None, budget: true };
        for (name, class) in [
            ("evict-uid-precondition-mismatch", Class::Conflict),
            ("evict-resourceversion-precondition-stale", Class::Conflict),
            ("evict-missing-pod-404", Class::NotFound),
            ("evict-blocked-by-pdb-429", budget),
            ("evict-two-pdbs", Class::TwoBudgets),
            ("agent-evicts-forbidden", Class::Forbidden),
            ("unauthorized-401", Class::Forbidden),
            ("forbidden-403", Class::Forbidden),
            ("patch-memory-stale-rv-409", Class::Conflict),
            ("patch-memory-below-request-422", Class::Invalid),
            ("unsupported-patch-type-415", Class::Invalid),
            ("lease-create-again-409", Class::Conflict),
            ("lease-update-stale-409", Class::Conflict),
            ("apply-conflict-409", Class::Conflict),
            ("cr-create-invalid", Class::Invalid),
            ("agent-patches-other-node-denied", Class::Invalid),
            ("watch-bad-rv-500", Class::OutcomeUnknown),
        ] {
            let response = &pair(name)["response"];
            let body = &response["body"];
            let causes = body["details"]["causes"].as_array();
            let budget = causes.is_some_and(|causes| causes.iter().any(|cause| cause["reason"] == "DisruptionBudget"));
            let code = u16::try_from(response["status"].as_u64().unwrap()).unwrap();
            let is = Class::of_answer(code, body["message"].as_str().unwrap_or(""), budget, 0);
            assert_eq!(is, class, "{name}");
        }
    }
}
