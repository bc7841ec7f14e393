//! Faults of the server itself, switched at run time.

use std::time::Duration;

use super::request::Target;

/// Which requests a rule is for. An absent member matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: Option<String>,
    /// Plural name, or `pods/eviction` for a subresource.
    pub resource: Option<String>,
    /// Name in the path.
    pub name: Option<String>,
    /// User name.
    pub user: Option<String>,
    /// Requests that are not dry runs only.
    pub acts_only: bool,
}

impl Match {
    /// Every request of a verb on a resource (`pods/eviction` for a subresource).
    #[must_use]
    pub fn on(verb: &str, resource: &str) -> Self {
        Self { verb: Some(verb.into()), resource: Some(resource.into()), ..Self::default() }
    }

    fn fits(&self, verb: &str, target: &Target, user: &str, dry_run: bool) -> bool {
        let resource = if target.subresource.is_empty() {
            target.plural.clone()
        } else {
            format!("{}/{}", target.plural, target.subresource)
        };
        let fits = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        fits(&self.verb, verb)
            && fits(&self.resource, &resource)
            && fits(&self.name, &target.name)
            && fits(&self.user, user)
            && !(self.acts_only && dry_run)
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Do what was asked, then close the connection instead of answering.
    LoseReply,
    /// Wait before anything is done.
    Delay(Duration),
    /// Do what was asked, then wait before answering.
    DelayReply(Duration),
    /// Answer this status without doing anything; seconds for `Retry-After`.
    Answer {
        /// 429 or 5xx.
        code: u16,
        /// Sent in the header and in the body.
        retry_after: Option<u32>,
    },
}

/// A fault for matching requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which requests.
    pub matching: Match,
    /// What happens to them.
    pub action: Action,
    /// So many times; `None`: until faults are cleared.
    pub times: Option<u32>,
}

/// How the server can be unreachable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    /// It answers.
    #[default]
    None,
    /// Every connection is reset, open ones too.
    Reset,
    /// Connections are taken and never answered.
    Hang,
}

/// How much is served from a cache that stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stale {
    /// Nothing.
    #[default]
    None,
    /// Watches, and lists at `resourceVersion=0`: a stale watch cache.
    Cache,
    /// Every read.
    Reads,
}

/// All that is switched on.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) rules: Vec<Rule>,
    /// Watches see a change this much later.
    pub(crate) lag: Duration,
    pub(crate) stale: Stale,
    /// Where the cache stands still.
    pub(crate) frozen: Option<u64>,
}

impl Faults {
    /// The actions for this request; rules with a number of times are used up by it.
    pub(crate) fn actions(&mut self, verb: &str, target: &Target, user: &str, dry_run: bool) -> Vec<Action> {
        let mut actions = Vec::new();
        for rule in &mut self.rules {
            if rule.times != Some(0) && rule.matching.fits(verb, target, user, dry_run) {
                rule.times = rule.times.map(|times| times - 1);
                actions.push(rule.action.clone());
            }
        }
        self.rules.retain(|rule| rule.times != Some(0));
        actions
    }
}
