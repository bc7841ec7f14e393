//! Reading, changing and taking back: one thing at a time, each bounded in time.

use std::time::{Duration, Instant};

use super::netlink::{self, mixed};
use super::{Change, Image, Place, RepairError, Sysctl, Undone, flows};
use crate::enter::{EnterError, EnterPool, Netns, cookie_here};

/// What is there where the change would be made.
///
/// # Errors
/// [`RepairError`].
pub async fn read(pool: &EnterPool, change: &Change, within: Duration) -> Result<Image, RepairError> {
    bounded(within, image(pool, change, within)).await
}

/// Makes a change if what is there is still `before`, reads back and gives what is there then. Of entries of conntrack those go
/// that are still there; where none is, [`RepairError::Changed`].
///
/// # Errors
/// [`RepairError`]; after [`RepairError::TimedOut`] and [`RepairError::Failed`] it must be read what is there.
pub async fn apply(pool: &EnterPool, change: &Change, before: &Image, within: Duration) -> Result<Image, RepairError> {
    let work = async {
        let now = image(pool, change, within).await?;
        // Entries of conntrack run out all the time: of those that are named, fewer are as good.
        if now != *before && change.reversible() {
            return Err(RepairError::Changed(format!("{now}, where {before} was read")));
        }
        let wrote = change.writes(&now).map_err(|unfit| RepairError::Changed(unfit.to_string()))?;
        write(pool, change, &now, &wrote, within).await?;
        image(pool, change, within).await
    };
    bounded(within, work).await
}

/// Takes a change back, but only where what is there is still what it wrote.
///
/// # Errors
/// [`RepairError`].
pub async fn undo(
    pool: &EnterPool,
    change: &Change,
    before: &Image,
    wrote: &Image,
    within: Duration,
) -> Result<Undone, RepairError> {
    let work = async {
        let now = image(pool, change, within).await?;
        if now == *before {
            return Ok(Undone::NotNeeded);
        }
        if now != *wrote || !change.reversible() {
            return Ok(Undone::LeftAlone(now));
        }
        write(pool, change, wrote, before, within).await?;
        let now = image(pool, change, within).await?;
        if now == *before {
            Ok(Undone::Done)
        } else {
            Err(RepairError::Failed(format!("after taking it back there is {now}, where {before} was")))
        }
    };
    bounded(within, work).await
}

async fn bounded<T>(within: Duration, work: impl Future<Output = Result<T, RepairError>>) -> Result<T, RepairError> {
    tokio::time::timeout(within, work).await.unwrap_or(Err(RepairError::TimedOut(within)))
}

/// Opens the namespace of a place, and makes sure that it is that one.
pub(super) async fn open(pool: &EnterPool, place: &Place) -> Result<Netns, RepairError> {
    let Place::Pod { pod, cookie, path } = place else { return Ok(pool.home().clone()) };
    let gone = || RepairError::Gone(format!("the namespace of pod {pod}"));
    let namespace = match Netns::open(path) {
        Ok(namespace) => namespace,
        Err(error) => return Err(entering(&error, gone)),
    };
    match pool.run(&namespace, cookie_here).await {
        Ok(Ok(found)) if found == *cookie => Ok(namespace),
        Ok(Ok(_)) => Err(gone()),
        Ok(Err(error)) | Err(error) => Err(entering(&error, gone)),
    }
}

pub(super) fn entering(error: &EnterError, gone: impl FnOnce() -> RepairError) -> RepairError {
    match (error, error.errno()) {
        (EnterError::NotANamespace { .. }, _) | (_, Some(libc::ENOENT | libc::ENOTDIR)) => gone(),
        (_, Some(libc::EPERM | libc::EACCES)) => RepairError::NotPermitted(error.to_string()),
        _ => RepairError::Failed(error.to_string()),
    }
}

/// A netlink socket in the namespace of the change. Its task ends with it.
struct Line {
    handle: rtnetlink::Handle,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn line(pool: &EnterPool, place: &Place) -> Result<Line, RepairError> {
    let namespace = open(pool, place).await?;
    let runtime = tokio::runtime::Handle::current();
    let opened = pool
        .run(&namespace, move || {
            // The socket is registered with the workers' reactor although this thread is none of them.
            let _reactor = runtime.enter();
            rtnetlink::new_connection()
        })
        .await;
    match opened {
        Ok(Ok((connection, handle, _))) => Ok(Line { handle, driver: tokio::spawn(connection) }),
        Ok(Err(error)) => Err(RepairError::Failed(format!("cannot open a netlink socket: {error}"))),
        Err(error) => Err(entering(&error, || RepairError::Gone("the namespace".to_owned()))),
    }
}

async fn image(pool: &EnterPool, change: &Change, within: Duration) -> Result<Image, RepairError> {
    match change {
        Change::Sysctl { name, .. } => return sysctl(pool, name, None, within).await.map(Image::Value),
        Change::DropFlows { flows } => return flows::there(pool, flows, within).await.map(Image::Flows),
        _ => {}
    }
    let line = line(pool, change.place()).await?;
    let handle = &line.handle;
    match change {
        Change::DefaultRoute { link, .. } => {
            netlink::link(handle, link).await?;
            netlink::routes(handle).await
        }
        Change::LinkUp { link, .. } => Ok(netlink::up(&netlink::link(handle, link).await?)),
        Change::AttachVeth { veth, bridge } => {
            netlink::link(handle, bridge).await?;
            Ok(netlink::bridge(&netlink::link(handle, veth).await?))
        }
        Change::Hairpin { veth } => Ok(netlink::hairpin(&netlink::link(handle, veth).await?)),
        Change::DropNeighbour { link, ip, .. } => {
            netlink::link(handle, link).await?;
            netlink::neighbour(handle, link, *ip).await
        }
        Change::BridgeAddress { bridge, .. } => {
            netlink::link(handle, bridge).await?;
            netlink::addresses(handle, bridge).await
        }
        Change::Sysctl { .. } | Change::DropFlows { .. } => Err(mixed()),
    }
}

/// From one image to another, by one request.
async fn write(
    pool: &EnterPool,
    change: &Change,
    from: &Image,
    to: &Image,
    within: Duration,
) -> Result<(), RepairError> {
    match (change, to) {
        (Change::Sysctl { name, .. }, Image::Value(value)) => {
            return sysctl(pool, name, Some(*value), within).await.map(drop);
        }
        // Those alone that were found just now.
        (Change::DropFlows { .. }, _) => {
            let Image::Flows(found) = from else { return Err(mixed()) };
            return flows::delete(pool, found, within).await;
        }
        _ => {}
    }
    let line = line(pool, change.place()).await?;
    let handle = &line.handle;
    match (change, to) {
        (Change::DefaultRoute { .. }, _) => netlink::set_route(handle, from, to).await,
        (Change::LinkUp { link, .. }, Image::Up(up)) => netlink::set_up(handle, link, *up).await,
        (Change::AttachVeth { veth, .. }, Image::Bridge(bridge)) => netlink::set_bridge(handle, veth, *bridge).await,
        (Change::Hairpin { veth }, Image::Hairpin(Some(on))) => netlink::set_hairpin(handle, veth, *on).await,
        (Change::DropNeighbour { link, ip, .. }, Image::Neighbour(None)) => {
            netlink::drop_neighbour(handle, link, *ip).await
        }
        (Change::DropNeighbour { link, ip, .. }, Image::Neighbour(Some(entry))) => {
            netlink::set_neighbour(handle, link, *ip, entry).await
        }
        (Change::BridgeAddress { bridge, ip, prefix }, Image::Addresses(all)) => {
            let there = all.contains(&((*ip).into(), *prefix));
            netlink::set_address(handle, bridge, (*ip, *prefix), there).await
        }
        _ => Err(mixed()),
    }
}

/// Before a path of `/proc/sys`: where the manifest mounts the node's sysctls writable, if that was opted in to. A container's own are
/// read-only, and no runtime mounts anything inside `/proc`. This mount, too, shows the network namespace of the thread that looks.
const OPTED_IN: &str = "/host";

/// Reads a sysctl of the node, after writing it if there is something to write. The value is written only through a file
/// that may be.
#[expect(clippy::disallowed_methods, reason = "the kernel crate bounds work that waits on its own threads")]
async fn sysctl(pool: &EnterPool, name: &Sysctl, value: Option<i64>, within: Duration) -> Result<i64, RepairError> {
    let path = name.path().ok_or_else(|| RepairError::Failed(format!("{name} is no sysctl")))?;
    let end = Instant::now() + within;
    let work = move || {
        // A thread that was busy must not do what nobody waits for any more.
        if Instant::now() >= end {
            return Err(RepairError::TimedOut(within));
        }
        let opted_in = format!("{OPTED_IN}{path}");
        let path = if std::path::Path::new(&opted_in).exists() { opted_in } else { path };
        let error = |doing: &str, error: &std::io::Error| match error.raw_os_error() {
            Some(libc::ENOENT) => RepairError::Gone(path.clone()),
            Some(libc::EPERM | libc::EACCES | libc::EROFS) => RepairError::NotPermitted(format!(
                "{path} cannot be {doing}: {error}; /proc/sys/net must be mounted writable for it (agent.writableSysctls)"
            )),
            _ => RepairError::Failed(format!("{path} cannot be {doing}: {error}")),
        };
        if let Some(value) = value {
            std::fs::write(&path, format!("{value}\n")).map_err(|e| error("written", &e))?;
        } else {
            // Opened for writing, and nothing is written: what may not be written need not be tried.
            std::fs::OpenOptions::new().write(true).open(&path).map_err(|e| error("written", &e))?;
        }
        let text = std::fs::read_to_string(&path).map_err(|e| error("read", &e))?;
        text.trim().parse().map_err(|_| RepairError::Failed(format!("{path} holds no number")))
    };
    match pool.run(pool.home(), work).await {
        Ok(done) => done,
        Err(error) => Err(entering(&error, || RepairError::Gone("the namespace".to_owned()))),
    }
}
