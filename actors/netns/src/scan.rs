//! Looking at the machine: cache, folders, `/proc`. Everything here runs on workers, blocking threads and the threads
//! that enter namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nameward_config::settings::Netns as Settings;
use nameward_kernel::cni::{self, CniEntry};
use nameward_kernel::enter::{EnterError, EnterPool, Netns, Place, cookie_here};
use nameward_kernel::facts::Reading;
use nameward_kernel::podfile::{PodFileError, read_in_root, read_sandbox_file};
use nameward_kernel::{cgroup, resolv, rtnl};
use nameward_messages::NetnsCookie;
use nameward_messages::namespaces::{NamespaceSource, Resolv};
use tokio::sync::watch;

use crate::sighting::{Scan, ScanRequest, Sighting, WantedPod, Whose};

/// Longest scan; one that takes longer is not whole.
const WITHIN: Duration = Duration::from_secs(30);
/// Longest reading of one namespace's addresses.
const ADDRESSES_WITHIN: Duration = Duration::from_secs(2);
/// Most files of one folder that are looked at.
const MAX_FILES: usize = 20_000;
/// Most troubles that are named.
const MAX_TROUBLES: usize = 8;

/// Looks for the namespaces of the pods that are asked for, and for no others. It takes at most half a minute.
pub async fn scan(pool: &EnterPool, settings: &Settings, request: ScanRequest) -> Scan {
    let mut looking = Looking { pool, settings, pods: &request.pods, found: Scan::default() };
    looking.found = Scan { number: request.number, whole: true, ..Scan::default() };
    let done = tokio::time::timeout(WITHIN, looking.look()).await;
    let mut scan = looking.found;
    if done.is_err() {
        scan.whole = false;
        scan.troubles.push(format!("looking for namespaces took longer than {WITHIN:?}"));
    }
    scan.troubles.truncate(MAX_TROUBLES);
    scan
}

/// Every pod that the CNI cache names, for when there is no API to ask: another node's may be among them.
pub async fn pods_in_cache(settings: &Settings) -> Vec<WantedPod> {
    let folder = settings.cni_results.clone();
    let read = move || {
        let files = list(&folder).unwrap_or_default();
        let entries = files.iter().filter_map(|path| cni::parse(&read_bounded(path).ok()?).ok()?);
        let pods = entries.filter_map(|e| Some(WantedPod { uid: e.uid?, key: e.key, ips: e.ips }));
        pods.map(|pod| (pod.uid.clone(), pod)).collect::<BTreeMap<_, _>>().into_values().collect()
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// When the cache and the folders last changed; different values mean that something did.
pub(crate) async fn glance(settings: &watch::Receiver<Settings>) -> Vec<Option<SystemTime>> {
    let paths: Vec<PathBuf> = {
        let settings = settings.borrow();
        std::iter::once(&settings.cni_results).chain(&settings.folders).cloned().collect()
    };
    let stat = move || paths.iter().map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok()).collect();
    tokio::task::spawn_blocking(stat).await.unwrap_or_default()
}

struct Looking<'a> {
    pool: &'a EnterPool,
    settings: &'a Settings,
    pods: &'a [WantedPod],
    found: Scan,
}

impl Looking<'_> {
    async fn look(&mut self) {
        let (entries, at) = self.cache().await;
        self.enter_entries(entries, at).await;
        if self.unfound().next().is_some() {
            self.folders().await;
        }
        if self.settings.host_pid && self.unfound().next().is_some() {
            self.processes().await;
        }
    }

    fn unfound(&self) -> impl Iterator<Item = &WantedPod> {
        let seen = |pod: &WantedPod| {
            self.found.sightings.iter().any(|s| match &s.whose {
                Whose::Uid(uid) => *uid == pod.uid,
                Whose::Key(key) => *key == pod.key,
                Whose::Addresses => s.meets(&pod.ips),
            })
        };
        self.pods.iter().filter(move |pod| !seen(pod))
    }

    /// A source could not be read: what it would have shown may still be there.
    fn trouble(&mut self, what: String) {
        self.found.whole = false;
        self.found.troubles.push(what);
    }

    /// The entries of our pods, each with the namespace file to open.
    async fn cache(&mut self) -> (Vec<CniEntry>, Vec<PathBuf>) {
        let (folder, pods) = (self.settings.cni_results.clone(), self.pods.to_vec());
        let folders = self.settings.folders.clone();
        let read = tokio::task::spawn_blocking(move || {
            let uids: BTreeSet<_> = pods.iter().map(|p| &p.uid).collect();
            let keys: BTreeSet<_> = pods.iter().map(|p| &p.key).collect();
            let ours = |e: &CniEntry| e.uid.as_ref().map_or_else(|| keys.contains(&e.key), |uid| uids.contains(uid));
            let mut entries = Vec::new();
            for path in list(&folder)?.iter().filter(|p| !p.to_string_lossy().ends_with("-lo")) {
                // An entry that is being written, or is garbage, is not ours to judge: the folder is the second source.
                match read_bounded(path).map(|bytes| cni::parse(&bytes)) {
                    Ok(Ok(entry)) => entries.extend(entry.filter(ours)),
                    Ok(Err(why)) => {
                        tracing::debug!(path = %path.display(), %why, "an entry of the CNI cache is passed over")
                    }
                    Err(why) => {
                        tracing::debug!(path = %path.display(), %why, "an entry of the CNI cache cannot be read")
                    }
                }
            }
            let at = entries.iter().map(|e| namespace_file(&e.netns, &folders)).collect();
            Ok::<_, io::Error>((entries, at))
        });
        match read.await {
            Ok(Ok(found)) => found,
            // Not every network plugin keeps one.
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), Vec::new()),
            Ok(Err(error)) => {
                self.trouble(format!("the CNI cache {} cannot be read: {error}", self.settings.cni_results.display()));
                (Vec::new(), Vec::new())
            }
            Err(_) => {
                self.trouble("reading the CNI cache failed".to_owned());
                (Vec::new(), Vec::new())
            }
        }
    }

    async fn enter_entries(&mut self, entries: Vec<CniEntry>, at: Vec<PathBuf>) {
        let cookies = self.cookies(&at).await;
        for ((entry, path), cookie) in entries.into_iter().zip(at).zip(cookies) {
            let Some(cookie) = cookie else { continue };
            let resolv = self.resolv_of(&entry).await;
            let whose = entry.uid.map_or_else(|| Whose::Key(entry.key), Whose::Uid);
            self.found.sightings.push(Sighting {
                source: NamespaceSource::CniCache,
                path,
                cookie,
                whose,
                ips: entry.ips,
                gateway: entry.gateway,
                host_veth: entry.host_veth,
                bridge: entry.bridge,
                resolv,
            });
        }
    }

    /// The cookie of each file's namespace; `None`: it is gone (or no namespace).
    async fn cookies(&mut self, paths: &[PathBuf]) -> Vec<Option<NetnsCookie>> {
        let places = paths.iter().cloned().map(Place::At).collect();
        let visited = match self.pool.visit(places, |_| cookie_here()).await {
            Ok(visited) => visited,
            Err(error) => {
                self.trouble(format!("no namespace can be entered: {error}"));
                return vec![None; paths.len()];
            }
        };
        let mut refused = 0_usize;
        let cookies: Vec<_> = visited
            .into_iter()
            .map(|cookie| match cookie.and_then(|inner| inner) {
                Ok(cookie) => Some(cookie),
                Err(EnterError::NotANamespace { .. }) => None,
                Err(error) if error.not_asked() == nameward_messages::probe::NotAsked::NamespaceGone => None,
                Err(_) => {
                    refused += 1;
                    None
                }
            })
            .collect();
        if refused > 0 {
            self.trouble(format!("{refused} namespaces may not be entered: grant CAP_SYS_ADMIN"));
        }
        cookies
    }

    /// The sandbox's file first, then what the cache says the pod was given.
    async fn resolv_of(&self, entry: &CniEntry) -> Resolv {
        let mut trouble = None;
        let plain = !entry.container_id.is_empty()
            && entry.container_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        for folder in self.settings.sandboxes.iter().filter(|_| plain) {
            let path = folder.join(&entry.container_id).join("resolv.conf");
            match read_sandbox_file(&path).await {
                Ok(bytes) => return resolv::parse(&bytes).read_from(path.display().to_string()),
                Err(PodFileError::NotFound { .. }) => {}
                Err(error) => trouble = Some(error.to_string()),
            }
        }
        if entry.dns_servers.is_empty() {
            return Resolv { trouble, ..Resolv::default() };
        }
        Resolv {
            nameservers: entry.dns_servers.clone(),
            search: entry.dns_search.clone(),
            options: entry.dns_options.clone(),
            read_from: Some("the CNI cache".to_owned()),
            trouble,
        }
    }

    /// The second source: every namespace of the folders that the cache did not lead to, with its addresses.
    async fn folders(&mut self) {
        for folder in &self.settings.folders {
            let path = folder.clone();
            let files = match tokio::task::spawn_blocking(move || list(&path)).await {
                Ok(Ok(files)) => files,
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => continue,
                Ok(Err(error)) => {
                    self.trouble(format!("the folder {} cannot be read: {error}", folder.display()));
                    continue;
                }
                Err(_) => continue,
            };
            let taken: BTreeSet<PathBuf> = self.found.sightings.iter().map(|s| s.path.clone()).collect();
            let files: Vec<PathBuf> = files.into_iter().filter(|f| !taken.contains(f)).collect();
            let cookies = self.cookies(&files).await;
            for (path, cookie) in files.into_iter().zip(cookies) {
                let Some(cookie) = cookie.filter(|c| self.found.sightings.iter().all(|s| s.cookie != *c)) else {
                    continue;
                };
                let ips = self.addresses(&path).await;
                let wanted = self.pods.iter().any(|pod| pod.ips.iter().any(|ip| ips.contains(ip)));
                if wanted {
                    self.found.sightings.push(bare(NamespaceSource::Folder, path, cookie, Whose::Addresses, ips));
                }
            }
        }
    }

    async fn addresses(&mut self, path: &Path) -> Vec<std::net::IpAddr> {
        let Ok(namespace) = Netns::open(path) else { return Vec::new() };
        match rtnl::topology(self.pool, &namespace, ADDRESSES_WITHIN).await {
            Reading::Read(topology) => topology.addresses.iter().map(|a| a.ip).filter(|ip| !ip.is_loopback()).collect(),
            other => {
                self.trouble(format!("{}: {}", path.display(), other.missing().unwrap_or_default()));
                Vec::new()
            }
        }
    }

    /// The third source: a process of the pod, by its cgroup.
    async fn processes(&mut self) {
        let wanted: BTreeMap<_, _> = self.unfound().map(|pod| (pod.uid.clone(), pod.ips.clone())).collect();
        let found = tokio::task::spawn_blocking(move || {
            let mut found = BTreeMap::new();
            for process in list(Path::new("/proc")).unwrap_or_default() {
                let is_process =
                    process.file_name().is_some_and(|n| n.as_encoded_bytes().iter().all(u8::is_ascii_digit));
                if !is_process || found.len() == wanted.len() {
                    continue;
                }
                let Some(member) = read_bounded(&process.join("cgroup")).ok().and_then(|b| cgroup::parse(&b)) else {
                    continue;
                };
                if let Some(ips) = wanted.get(&member.pod) {
                    found.entry(member.pod).or_insert_with(|| (process, ips.clone()));
                }
            }
            found
        });
        let found = found.await.unwrap_or_default();
        let paths: Vec<PathBuf> = found.values().map(|(process, _)| process.join("ns/net")).collect();
        let cookies = self.cookies(&paths).await;
        for (((uid, (process, ips)), path), cookie) in found.into_iter().zip(paths).zip(cookies) {
            let Some(cookie) = cookie else { continue };
            let mut sighting = bare(NamespaceSource::Proc, path, cookie, Whose::Uid(uid), ips);
            sighting.resolv = match read_in_root(&process.join("root"), "etc/resolv.conf").await {
                Ok(bytes) => {
                    resolv::parse(&bytes).read_from(process.join("root/etc/resolv.conf").display().to_string())
                }
                Err(error) => Resolv { trouble: Some(error.to_string()), ..Resolv::default() },
            };
            self.found.sightings.push(sighting);
        }
    }
}

/// A sighting of which nothing more is known.
fn bare(
    source: NamespaceSource,
    path: PathBuf,
    cookie: NetnsCookie,
    whose: Whose,
    ips: Vec<std::net::IpAddr>,
) -> Sighting {
    let resolv = Resolv::default();
    Sighting { source, path, cookie, whose, ips, gateway: None, host_veth: None, bridge: None, resolv }
}

/// The runtime names its file as the host sees it: here `/var/run` may be no link, or the folder mounted elsewhere.
fn namespace_file(named: &Path, folders: &[PathBuf]) -> PathBuf {
    let run = named.strip_prefix("/var/run").ok().map(|rest| Path::new("/run").join(rest));
    let below = folders.iter().filter_map(|folder| Some(folder.join(named.file_name()?)));
    let mut candidates = run.into_iter().chain(std::iter::once(named.to_owned())).chain(below);
    candidates.find(|path| path.symlink_metadata().is_ok()).unwrap_or_else(|| named.to_owned())
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(MAX_FILES) {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

/// The runtime's own files: of a bounded length all the same.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO would keep the reader for ever.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(cni::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
