//! A program of the node, run without a shell and within bounds.

use std::io;
use std::pin::pin;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::Limits;
use crate::enter::{EnterPool, Netns};
use crate::facts::Reading;

/// Most bytes kept of what it says about itself.
const MAX_COMPLAINT: u64 = 4096;

/// Runs a program found on PATH to its end, in the node's own namespace, and returns what it printed.
///
/// [`Reading::NotPresent`]: it is not installed. It is killed when it takes too long or prints too much.
pub(super) async fn run(program: &str, arguments: &[&str], limits: Limits) -> Reading<Vec<u8>> {
    finish(program, start(program, arguments), limits).await
}

/// As [`run`], in another network namespace: the child is started by a thread that is inside, and stays there.
pub(super) async fn run_inside(
    pool: &EnterPool,
    namespace: &Netns,
    program: &'static str,
    arguments: &'static [&'static str],
    limits: Limits,
) -> Reading<Vec<u8>> {
    let runtime = tokio::runtime::Handle::current();
    let started = pool.run(namespace, move || {
        // The runtime waits for the child; the thread only makes it.
        let _entered = runtime.enter();
        start(program, arguments)
    });
    match started.await {
        Ok(child) => finish(program, child, limits).await,
        Err(error) => super::unreadable(&error),
    }
}

fn start(program: &str, arguments: &[&str]) -> io::Result<Child> {
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new(program)
        .args(arguments)
        .env_clear()
        // The tools lie in folders that are not on everybody's path; and what they say is read, so it is not translated.
        .env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

async fn finish(program: &str, child: io::Result<Child>, limits: Limits) -> Reading<Vec<u8>> {
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Reading::NotPresent(format!("{program} is not installed"));
        }
        Err(error) => return Reading::Failed(format!("cannot start {program}: {error}")),
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let talk = async {
        // Read beside one another, what it says of itself to the end: a full pipe would stop the program, a closed one end it.
        let mut complaining = pin!(complaint(err));
        let mut printing = pin!(bounded(out, limits.bytes));
        let mut said = None;
        let printed = loop {
            tokio::select! {
                printed = &mut printing => break printed?,
                text = &mut complaining, if said.is_none() => said = Some(text),
            }
        };
        // Whether it goes on does not matter: it is ended.
        let Some(printed) = printed else {
            return Ok(Reading::Failed(format!("{program} printed more than {} bytes", limits.bytes)));
        };
        let said = match said {
            Some(text) => text,
            None => complaining.await,
        };
        let status = child.wait().await?;
        let complaint = String::from_utf8_lossy(&said).trim().to_owned();
        Ok::<_, io::Error>(if status.success() {
            Reading::Read(printed)
        } else if ["Permission denied", "Operation not permitted", "you must be root"]
            .iter()
            .any(|s| complaint.contains(s))
        {
            Reading::NotPermitted(format!("{program}: {complaint}"))
        } else {
            Reading::Failed(format!("{program} ended with {status}: {complaint}"))
        })
    };
    let result = tokio::time::timeout(limits.within, talk).await;
    let reading = match result {
        Ok(Ok(reading)) => reading,
        Ok(Err(error)) => Reading::Failed(format!("{program}: {error}")),
        Err(_) => Reading::Failed(format!("{program} did not end within {:?}", limits.within)),
    };
    // Harmless if it has ended; else it is killed and does not stay as a zombie.
    let _ = child.start_kill();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), child.wait()).await;
    reading
}

/// Everything, if it is no more than `limit` bytes; of more (`None`) the rest is left unread.
async fn bounded(from: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut kept = Vec::new();
    let Some(from) = from else { return Ok(Some(kept)) };
    from.take(limit + 1).read_to_end(&mut kept).await?;
    Ok((kept.len() as u64 <= limit).then_some(kept))
}

/// The first [`MAX_COMPLAINT`] bytes; the rest is read and thrown away. What cannot be read is none.
async fn complaint(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return kept };
    if (&mut from).take(MAX_COMPLAINT).read_to_end(&mut kept).await.is_ok() {
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::time::Duration;

    use super::*;

    fn limits(within: u64, bytes: u64) -> Limits {
        Limits { within: Duration::from_millis(within), bytes }
    }

    #[tokio::test]
    async fn it_reads_what_is_printed() {
        assert_eq!(run("printf", &["%s", "$HOME; x"], limits(5000, 100)).await, Reading::Read(b"$HOME; x".to_vec()));
    }

    #[tokio::test]
    async fn every_bound_is_kept() {
        assert!(matches!(run("nameward-no-such-program", &[], limits(5000, 1)).await, Reading::NotPresent(_)));
        assert!(matches!(run("false", &[], limits(5000, 1)).await, Reading::Failed(_)));
        let slow = run("sleep", &["60"], limits(50, 1)).await;
        assert!(matches!(&slow, Reading::Failed(why) if why.contains("did not end")), "{slow:?}");
        let loud = run("yes", &[], limits(5000, 1000)).await;
        assert!(matches!(&loud, Reading::Failed(why) if why.contains("more than 1000 bytes")), "{loud:?}");
        let denied = run("cat", &["/proc/1/mem-no"], limits(5000, 1000)).await;
        assert!(matches!(denied, Reading::Failed(_)));
    }

    #[tokio::test]
    async fn printing_too_much_is_said_at_once_and_complaining_at_length_is_no_failure() {
        // It does not mind that nobody reads any more, and does not end: its complaints have no end either.
        let on = "trap '' PIPE; yes 2>/dev/null | head -c 5000; exec sleep 60";
        let loud = run("sh", &["-c", on], limits(20_000, 1000)).await;
        assert!(matches!(&loud, Reading::Failed(why) if why.contains("more than 1000 bytes")), "{loud:?}");

        let at_length = "yes complaint | head -c 200000 >&2 && echo done";
        assert_eq!(run("sh", &["-c", at_length], limits(20_000, 1000)).await, Reading::Read(b"done\n".to_vec()));
        let failing = "yes complaint | head -c 200000 >&2; exit 3";
        let failed = run("sh", &["-c", failing], limits(20_000, 1000)).await;
        let whole = |why: &str| why.len() < 5000 && why.contains("exit status: 3: complaint");
        assert!(matches!(&failed, Reading::Failed(why) if whole(why)), "{failed:?}");
    }
}
