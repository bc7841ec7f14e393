//! Surroundings that are not as they should be: kubeconfig, API server, port, rights, tools.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use support::{Home, PATIENCE, Running, awaited, get, nobody, ran, text};

const NO_PODS: &str = "no probes from pods, the host's vantage alone: setns is not permitted; grant CAP_SYS_ADMIN";
const NO_RULES: &str = "no firewall rules and no conntrack as evidence";

/// `check` and `run` say the same of a kubeconfig.
#[track_caller]
fn both_refuse(home: &Home, args: &[&str], words: &[&str]) {
    for command in ["check", "run"] {
        let mut command = home.nameward(&[&[command], args].concat());
        command.env("NAMEWARD_METRICS_LISTEN", "127.0.0.1:0");
        ran(command).fails(2, words);
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_named_with_the_next_step() {
    let home = Home::new();
    both_refuse(&home, &[], &["no way to the Kubernetes API", ".kube/config", "--kubeconfig"]);
    both_refuse(
        &home,
        &["--kubeconfig", "gone"],
        &["kubeconfig gone", "No such file", "--kubeconfig, or kubernetes.kubeconfig"],
    );
    home.write("broken", "clusters: {");
    both_refuse(&home, &["--kubeconfig", "broken"], &["kubeconfig broken", "because: ", "line 1", "correct the file"]);
    home.write("other", "just a text\n");
    both_refuse(&home, &["--kubeconfig", "other"], &["kubeconfig other", "because: "]);
    let good = home.kubeconfig(nobody());
    both_refuse(
        &home,
        &["--kubeconfig", text(&good), "--context", "prod"],
        &["no context \"prod\"", "it has: lab", "--context, or kubernetes.context"],
    );
}

#[test]
fn check_says_soon_that_the_api_cannot_be_reached() {
    let home = Home::new();
    let server = nobody();
    home.kubeconfig(server);
    let said = ran(home.nameward(&["check", "--kubeconfig", "kubeconfig"]));
    said.fails(3, &[&format!("http://{server}/ cannot be reached"), "Connection refused", "check the address"]);
    let said = ran(home.nameward(&["check", "--kubeconfig", "kubeconfig", "--output", "json"]));
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.json()["healthy"].is_null() && said.json()["error"]["what"].as_str().unwrap().contains("reached"));
}

/// A server that reads and answers every connection with this, or never (empty).
fn server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            if !answer.is_empty() {
                let _read = stream.read(&mut [0; 4096]);
                let _written = stream.write_all(answer.as_bytes());
                continue;
            }
            held.push(stream);
        }
    });
    address
}

#[test]
fn check_does_not_hang_on_a_server_that_never_answers_or_is_something_else() {
    let home = Home::new();
    let silent = server("");
    home.kubeconfig(silent);
    let mut command = home.nameward(&["check", "--kubeconfig", "kubeconfig"]);
    command.env("NAMEWARD_KUBERNETES_CALL_TIMEOUT", "1s");
    ran(command).fails(3, &[&silent.to_string(), "no answer within 1s"]);

    let other = server("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    home.kubeconfig(other);
    ran(home.nameward(&["check", "--kubeconfig", "kubeconfig"]))
        .fails(3, &[&other.to_string(), "is no Kubernetes API"]);

    let strict = server(
        "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 125\r\nConnection: close\r\n\r\n\
         {\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"Unauthorized\",\"reason\":\"Unauthorized\",\"code\":401} ",
    );
    home.kubeconfig(strict);
    ran(home.nameward(&["check", "--kubeconfig", "kubeconfig"])).fails(3, &["does not know this user", "Unauthorized"]);
}

#[test]
fn an_occupied_port_is_named_with_its_setting() {
    let home = Home::new();
    home.kubeconfig(nobody());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = home.nameward(&["run", "--kubeconfig", "kubeconfig"]);
    command.env("NAMEWARD_METRICS_LISTEN", &address);
    ran(command).fails(3, &[&address, "metrics.listen", "Address already in use", "ss -ltnp"]);
}

/// Starts `run` and gives its address.
fn run(mut command: Command) -> (Running, SocketAddr) {
    command.env("NAMEWARD_METRICS_LISTEN", "127.0.0.1:0");
    let mut running = Running::start(command);
    let line = running.says("nameward starts");
    let address = line.split("metrics=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    (running, address)
}

#[test]
fn without_the_api_run_keeps_going_and_says_what_it_waits_for() {
    let home = Home::new();
    let server = nobody();
    home.kubeconfig(server);
    let (running, address) = run(home.nameward(&["run", "--kubeconfig", "kubeconfig"]));
    let page = awaited("the API's address in /readyz", PATIENCE, || {
        let (status, body) = get(address, "/readyz")?;
        assert_eq!(status, 503, "{body}");
        body.contains(&server.to_string()).then_some(body)
    });
    assert!(page.starts_with("awaited:\n") && page.contains("DNS Service"), "{page}");
    assert_eq!(get(address, "/healthz").unwrap().0, 200);

    running.signal(nix::sys::signal::Signal::SIGTERM);
    let (status, lines) = running.ends(PATIENCE);
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("nameward ends")), "{lines:#?}");
}

#[test]
fn without_rights_check_and_run_say_what_is_lost() {
    let home = Home::new();
    home.kubeconfig(nobody());
    ran(home.powerless(&["check", "--kubeconfig", "kubeconfig"])).fails(3, &[NO_PODS, NO_RULES, "CAP_NET_ADMIN"]);

    let (running, address) = run(home.powerless(&["run", "--kubeconfig", "kubeconfig"]));
    for loss in [NO_PODS, NO_RULES] {
        assert!(running.seen.iter().any(|line| line.contains(loss) && line.contains("WARN")), "{:#?}", running.seen);
    }
    assert_eq!(get(address, "/healthz").unwrap().0, 200);
    let state =
        awaited("the losses in /state", PATIENCE, || get(address, "/state").filter(|(_, b)| b.contains(NO_PODS)));
    assert_eq!(state.0, 200);
}

#[test]
fn without_iptables_and_nft_the_lost_evidence_is_named() {
    let home = Home::new();
    home.kubeconfig(nobody());
    // Root in namespaces of its own, so that it is the tools alone that are missing.
    let mut command =
        home.under(&["unshare", "--user", "--map-root-user", "--net"], &["check", "--kubeconfig", "kubeconfig"]);
    command.env("PATH", "/nowhere");
    let said = ran(command).fails(3, &["iptables-save is not installed", "nft is not installed"]);
    assert!(!said.err.contains("CAP_SYS_ADMIN"), "{said:#?}");
}
