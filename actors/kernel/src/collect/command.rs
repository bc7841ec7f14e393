//! A program of the node, run without a shell and within bounds.

use std::io;
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
        // Both are read to the end: a full pipe would stop the program.
        let (printed, complaint) = tokio::join!(bounded(out, limits.bytes), bounded(err, MAX_COMPLAINT));
        let (printed, whole) = printed?;
        if !whole {
            return Ok(Reading::Failed(format!("{program} printed more than {} bytes", limits.bytes)));
        }
        let status = child.wait().await?;
        let complaint = complaint.map(|(text, _)| String::from_utf8_lossy(&text).trim().to_owned()).unwrap_or_default();
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

/// Reads at most `limit` bytes; `false`: there was more, and it was left unread.
async fn bounded(from: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let Some(from) = from else { return Ok((kept, true)) };
    from.take(limit + 1).read_to_end(&mut kept).await?;
    let whole = kept.len() as u64 <= limit;
    Ok((kept, whole))
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
}
