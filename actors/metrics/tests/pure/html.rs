//! The page: well-formed, complete without scripts, and closed to what comes from the world.

use nameward_messages::namespaces::VantageKind;
use nameward_messages::plan::IncidentPhase;
use nameward_messages::probe::{OutcomeKind, QuestionKind};
use nameward_messages::remedy::RemedyOutcome;
use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::status::{
    Act, Cell, Event, EventKind, Health, History, Incident, Matrix, MatrixOf, Minute, Note, NoteKind, PacketWay,
    Passes, PathState, Row, Seen, Source, Station, Status, TargetHead, WayStep,
};
use nameward_messages::verdict::{Cause, Confidence, Evidence, RuledOut, Scope, Subject, SubjectKind};
use nameward_metrics::html::{CSS, ICON, JS, POLICY, page};
use proptest::prelude::*;

use crate::common::{at, ip, service_ip};

/// A page with this text wherever text can stand.
fn everywhere(text: &str) -> Status {
    let own = || text.to_owned();
    let subject = Subject { kind: SubjectKind::Pod, namespace: Some(own()), name: own(), uid: Some(text.into()) };
    let seen = |state, outcome| Seen {
        state,
        good: 1,
        bad: 2,
        latency_us: Some(1234),
        outcome,
        says: Some(own()),
        failing: vec![QuestionKind::External],
        age_s: Some(3),
    };
    let act = Act {
        at: at(5).wall,
        kind: RemedyKind::EvictPod,
        subject: subject.clone(),
        mode: Mode::Act,
        outcome: RemedyOutcome::Refused,
        detail: own(),
        node: Some(text.into()),
        times: 3,
    };
    let incident = |name: Option<String>, open: bool| Incident {
        name,
        cause: Cause::CorednsUdpDead,
        says: own(),
        scope: Scope::CorednsPod,
        subject: subject.clone(),
        confidence: Some(Confidence::Certain),
        phase: open.then_some(IncidentPhase::Escalated),
        open,
        nodes: vec![text.into()],
        since: Some(at(1).wall),
        closed_at: (!open).then_some(at(9).wall),
        summary: own(),
        evidence: vec![Evidence::new(own(), own())],
        ruled_out: vec![RuledOut { what: own(), because: own() }],
        stations: vec![Station { name: own(), here: true }, Station { name: own(), here: false }],
        way: Some(PacketWay {
            path: own(),
            steps: [Passes::Yes, Passes::Unknown, Passes::No]
                .map(|passes| WayStep { at: own(), says: own(), passes })
                .into(),
        }),
        acts: vec![act.clone()],
        remedy: Some(RemedyKind::EvictPod),
        command: own(),
        never: vec![own()],
        runbook: own(),
    };
    let cell = |state, outcome| Cell { udp: Some(seen(state, outcome)), tcp: None };
    Status {
        source: Source {
            version: own(),
            node: own(),
            role: own(),
            leading: Some(true),
            uptime_s: Some(1),
            period_s: Some(10),
            mode: Some(Mode::Observe),
        },
        as_of: Some(at(10).wall),
        health: Health::Failing,
        headline: own(),
        notes: vec![Note { kind: NoteKind::Trouble, text: own() }],
        cluster: Some(nameward_messages::status::ClusterFigures { silent: 1, ..Default::default() }),
        matrices: vec![Matrix {
            of: MatrixOf::Node,
            targets: vec![
                TargetHead { kind: "pod".into(), name: own(), ip: ip(2), node: Some(text.into()) },
                TargetHead { kind: "service".into(), name: own(), ip: service_ip(), node: None },
            ],
            rows: vec![
                Row {
                    from: own(),
                    kind: VantageKind::Pod,
                    node: None,
                    state: PathState::Failing,
                    cells: vec![cell(PathState::Failing, Some(OutcomeKind::Timeout)), Cell::default()],
                },
                Row {
                    from: own(),
                    kind: VantageKind::Host,
                    node: None,
                    state: PathState::Doubtful,
                    cells: vec![cell(PathState::Doubtful, None), cell(PathState::Well, None)],
                },
            ],
            rows_left_out: 3,
            targets_left_out: 1,
        }],
        incidents: vec![incident(Some(own()), true), incident(None, false)],
        incidents_left_out: 2,
        acts: vec![act],
        history: History {
            minutes: vec![
                Minute { at: at(0).wall, known: true, asked: 5, ..Minute::default() },
                Minute { at: at(60).wall, ..Minute::default() },
                Minute {
                    at: at(120).wall,
                    known: true,
                    asked: 5,
                    failed: 2,
                    suspected: 2,
                    incidents: 1,
                    median_us: Some(900),
                },
            ],
            events: vec![Event { at: at(3).wall, kind: EventKind::Named, text: own() }],
        },
    }
}

/// The tags of a page, in order; panics where one is not closed in its turn. Every `<` and `>` must belong to a tag.
fn tags(page: &str) -> Vec<String> {
    const VOID: [&str; 4] = ["meta", "link", "!DOCTYPE", "wbr"];
    let mut open: Vec<&str> = Vec::new();
    let mut all = Vec::new();
    let mut rest = page;
    while let Some(begin) = rest.find('<') {
        assert!(!rest[..begin].contains('>'), "a stray > in {:?}", &rest[..begin]);
        let end = begin + rest[begin..].find('>').expect("a tag that does not end");
        let tag = &rest[begin + 1..end];
        assert!(!tag.contains('<'), "< inside a tag: {tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed out of turn");
        } else if !VOID.contains(&name) {
            open.push(name);
        }
        all.push(tag.to_owned());
        rest = &rest[end + 1..];
    }
    assert_eq!(open, Vec::<&str>::new(), "left open");
    all
}

fn attributes<'a>(tags: &'a [String], key: &str) -> Vec<&'a str> {
    let start = format!(" {key}=\"");
    tags.iter().filter_map(|tag| tag.split_once(start.as_str())?.1.split('"').next()).collect()
}

#[test]
fn it_is_well_formed_and_every_reference_has_its_target() {
    let tags = tags(&page(&everywhere("web-1")));
    let mut ids = attributes(&tags, "id");
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id twice: {ids:?}");
    for reference in attributes(&tags, "aria-labelledby") {
        assert!(ids.contains(&reference), "{reference}");
    }
    for link in attributes(&tags, "href").iter().filter_map(|link| link.strip_prefix('#')) {
        assert!(ids.contains(&link), "#{link}");
    }
    for wanted in ["main", "header", "footer", "nav", "h1", "caption", "svg"] {
        assert!(tags.iter().any(|tag| tag.split(' ').next() == Some(wanted)), "{wanted}");
    }
    let heads = tags.iter().filter(|tag| tag.starts_with("th ") || *tag == "th");
    assert!(
        heads.clone().count() > 5 && heads.clone().all(|tag| tag.contains(" scope=")),
        "{:?}",
        heads.collect::<Vec<_>>()
    );
    assert!(tags.iter().any(|tag| tag.contains("role=\"status\"") && tag.contains("aria-live=\"polite\"")));
}

#[test]
fn it_keeps_to_its_own_policy() {
    for status in [everywhere("x"), everywhere("")] {
        let text = page(&status);
        let tags = tags(&text);
        assert!(
            !tags.iter().any(|tag| tag.starts_with("style") || tag.starts_with("form") || tag.starts_with("iframe"))
        );
        assert!(attributes(&tags, "style").is_empty());
        assert!(!tags.iter().any(|tag| tag.split(' ').any(|part| part.starts_with("on") && part.contains('='))));
        // Nothing is loaded or linked to but what this process serves itself.
        let known = ["nameward.css", "nameward.js", "nameward.svg", "status.json", "state", "metrics"];
        for link in attributes(&tags, "href").into_iter().chain(attributes(&tags, "src")) {
            assert!(link.starts_with('#') || known.contains(&link), "{link}");
        }
        let scripts: Vec<&String> = tags.iter().filter(|tag| tag.starts_with("script")).collect();
        assert_eq!(scripts, ["script src=\"nameward.js\" defer"]);
    }
    for text in [CSS, JS] {
        assert!(
            !text.contains("http:") && !text.contains("https:") && !text.contains("@import") && !text.contains("url(")
        );
    }
    assert!(!JS.contains("innerHTML =") && !JS.contains("eval") && !JS.contains("POST"), "text stays text");
    assert!(ICON.starts_with("<svg") && POLICY.starts_with("default-src 'none'"));
}

#[test]
fn no_state_is_told_by_colour_alone() {
    let text = page(&everywhere("x"));
    for word in
        ["DNS failing", "ends here", "not known", "it lies here", "refused", "needs a person", "not asked", "1.2 ms"]
    {
        assert!(text.contains(word), "{word}");
    }
    for sign in ["\u{2715}", "\u{2713}", "!", "?"] {
        assert!(text.contains(&format!("aria-hidden=\"true\">{sign}")), "{sign}");
    }
}

#[test]
fn nothing_known_is_a_page_too() {
    let tags_of = |status: &Status| tags(&page(status));
    let mut status = everywhere("x");
    status.as_of = None;
    status.health = Health::Unknown;
    (status.notes, status.matrices, status.incidents, status.acts) = (vec![], vec![], vec![], vec![]);
    status.history = History::default();
    status.cluster = None;
    let text = page(&status);
    tags_of(&status);
    for sentence in
        ["Nothing has been asked yet.", "None.", "Nothing was done and nothing was refused", "Nothing is known yet"]
    {
        assert!(text.contains(sentence), "{sentence}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a name, an evidence line or a node says, the page has the same elements.
    #[test]
    fn text_is_text_wherever_it_stands(text in "\\PC{0,40}|[<>\"'&/=!a-z \u{0}-\u{1f}\u{202e}-]{0,40}|<script>alert\\(1\\)</script>|\" onload=\"x") {
        let shape = |page: String| -> Vec<String> {
            // Where a line may break is up to the text.
            tags(&page).into_iter().filter(|tag| tag != "wbr").map(|tag| {
                // Names of attributes stay, values go.
                tag.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
            }).collect()
        };
        prop_assume!(!text.is_empty());
        prop_assert_eq!(shape(page(&everywhere(&text))), shape(page(&everywhere("x"))));
    }
}
