//! Visitors from elsewhere: let in by the API server's word alone. All connections of a test come from loopback; who asks for
//! another name than localhost is treated as who comes from another machine.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nameward_config::Config;
use nameward_messages::health::ActorName;
use nameward_metrics::{About, MetricsActor, Pages, Review, Reviewing, Visitor, bind};
use nameward_supervision::{RestartBudget, Supervisor, inbox, run};

use crate::pages::{PATIENCE, ask, head};

/// Says what it is told to say, and counts.
#[derive(Default)]
struct Word {
    asked: AtomicUsize,
    seen: Mutex<Vec<(String, &'static str)>>,
}

impl Review for Word {
    fn review(&self, token: &str, path: &'static str) -> Reviewing {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.seen.lock().unwrap().push((token.to_owned(), path));
        let said = match token {
            "good" if path != "/state" => Ok(Visitor::Allowed),
            "good" => Ok(Visitor::Forbidden { name: "carol".into() }),
            "broken" => Err("could not have a visitor's token reviewed: no answer".to_owned()),
            _ => Ok(Visitor::Unknown),
        };
        Box::pin(async move { said })
    }
}

fn scene(open: bool, review: Option<Arc<Word>>, test: impl AsyncFnOnce(SocketAddr)) {
    run(|| async {
        let endpoint = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = endpoint.address();
        let mut supervisor = Supervisor::new(RestartBudget::default());
        let about = About { version: "1".into(), node: "n".into(), role: "agent".into() };
        let pages = Pages::new(about, supervisor.board()).unwrap();
        if let Some(review) = review {
            pages.reviewed_by(review);
        }
        let serving = endpoint.serve(pages.clone());
        let (_outlet, inbox) = inbox(ActorName::Metrics, 4);
        let mut config = Config::default();
        config.metrics.open_state = open;
        supervisor.start(inbox, move || MetricsActor::new(&config, pages.clone()));
        // The actor opens the page when it starts.
        let opened = async {
            while (ask(address, &request("/state", None)).await.0 == 403) == open {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, opened).await.expect("the page is not opened");
        tokio::time::timeout(PATIENCE, test(address)).await.expect("hangs");
        serving.abort();
    })
    .unwrap();
}

fn request(page: &str, authorization: Option<&str>) -> String {
    let shown = authorization.map(|shown| format!("Authorization: {shown}\r\n")).unwrap_or_default();
    format!("GET {page} HTTP/1.1\r\nHost: dns.example\r\n{shown}Connection: close\r\n\r\n")
}

async fn status(address: SocketAddr, page: &str, authorization: Option<&str>) -> u16 {
    ask(address, &request(page, authorization)).await.0
}

#[test]
fn a_visitor_is_let_in_by_the_word_of_the_api_server_for_the_page_that_it_names() {
    let word = Arc::new(Word::default());
    scene(true, Some(Arc::clone(&word)), async |address| {
        for (page, shown, wanted) in [
            ("/status.json", Some("Bearer good"), 200),
            ("/", Some("bearer good"), 200),
            ("/state", Some("Bearer good"), 403),
            ("/state", Some("Bearer other"), 401),
            ("/state", Some("Bearer "), 401),
            ("/state", Some("Basic good"), 401),
            ("/state", None, 401),
            ("/status.json", Some("Bearer broken"), 503),
            ("/", Some("Bearer other"), 401),
            // What is for everybody stays so.
            ("/", None, 200),
            ("/metrics", None, 200),
            ("/healthz", None, 200),
        ] {
            assert_eq!(status(address, page, shown).await, wanted, "{page} with {shown:?}");
        }
        let (_, index) = ask(address, &request("/", None)).await;
        assert!(index.starts_with("Nameward\n"), "{index}");
        let (_, told) = ask(address, &request("/state", Some("Bearer good"))).await;
        assert!(told.contains("carol") && told.contains("nameward-viewer"), "{told}");
        let (_, told) = ask(address, &request("/state", None)).await;
        assert!(told.contains("--audience nameward"), "{told}");
        let head = head(address, &request("/state", None)).await;
        assert!(head.contains("www-authenticate: bearer"), "{head}");
        let long = format!("Bearer {}", "x".repeat(9000));
        assert_eq!(status(address, "/state", Some(&long)).await, 401);
        assert!(word.seen.lock().unwrap().iter().all(|(token, _)| token.len() < 20), "it was not handed on");
    });
}

#[test]
fn what_was_said_is_remembered_but_never_that_nothing_was_said() {
    let word = Arc::new(Word::default());
    scene(true, Some(Arc::clone(&word)), async |address| {
        for _ in 0..5 {
            assert_eq!(status(address, "/status.json", Some("Bearer good")).await, 200);
            assert_eq!(status(address, "/status.json", Some("Bearer other")).await, 401);
        }
        assert_eq!(word.asked.load(Ordering::Relaxed), 2);
        for _ in 0..3 {
            assert_eq!(status(address, "/status.json", Some("Bearer broken")).await, 503);
        }
        assert_eq!(word.asked.load(Ordering::Relaxed), 5);
    });
}

#[test]
fn strangers_do_not_make_it_ask_without_end() {
    let word = Arc::new(Word::default());
    scene(true, Some(Arc::clone(&word)), async |address| {
        assert_eq!(status(address, "/status.json", Some("Bearer good")).await, 200);
        let mut last = 0;
        for n in 0..40 {
            last = status(address, "/status.json", Some(&format!("Bearer guess-{n}"))).await;
        }
        // On a machine that is slow enough for ten seconds to pass, more are asked about.
        let asked = word.asked.load(Ordering::Relaxed);
        assert!(asked < 41 || last == 401, "{asked} asked, the last said {last}");
        assert_eq!(status(address, "/status.json", Some("Bearer good")).await, 200, "who is known comes in");
    });
}

#[test]
fn nobody_comes_in_without_somebody_to_ask_and_nobody_while_it_is_shut() {
    scene(true, None, async |address| {
        assert_eq!(status(address, "/state", Some("Bearer good")).await, 503);
    });
    let word = Arc::new(Word::default());
    scene(false, Some(Arc::clone(&word)), async |address| {
        assert_eq!(status(address, "/state", Some("Bearer good")).await, 403);
        assert_eq!(word.asked.load(Ordering::Relaxed), 0);
    });
}
