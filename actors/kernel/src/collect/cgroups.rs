//! The cgroup of a pod's container, where the node's cgroups can be seen: with hostPID or with the host's
//! `/sys/fs/cgroup` mounted. Else the agent sees its own alone, and says so.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use nameward_messages::PodUid;
use tokio::time::Instant;

use super::Limits;
use crate::cgroup::{figures::number, of_path};
use crate::facts::Reading;

pub use crate::cgroup::figures::CgroupFigures;

/// Folders that are looked at in search of one pod.
const FOLDERS: usize = 8192;
/// Containers of a pod that are looked at.
const CONTAINERS: usize = 16;
/// Longest file, bytes: the kernel writes a few hundred.
const BYTES: u64 = 16 * 1024;

/// Figures of a pod's busiest container. Runs on a blocking thread, for as long as `limits.within` at most.
pub async fn cgroup(root: PathBuf, pod: PodUid, limits: Limits) -> Reading<CgroupFigures> {
    let until = Instant::now() + limits.within;
    let work = tokio::task::spawn_blocking(move || read(&root, &pod, until));
    match tokio::time::timeout(limits.within, work).await {
        Ok(Ok(reading)) => reading,
        Ok(Err(error)) => Reading::Failed(error.to_string()),
        Err(_) => Reading::Failed(format!("cgroups were not read within {:?}", limits.within)),
    }
}

fn read(root: &Path, pod: &PodUid, until: Instant) -> Reading<CgroupFigures> {
    let missing = |what: &str| Reading::NotPresent(format!("{} {what}", root.display()));
    let v2 = root.join("cgroup.controllers").exists();
    // v1: one tree per controller; its folder has several names.
    let (cpu, memory) = if v2 {
        (Some(root.to_path_buf()), Some(root.to_path_buf()))
    } else {
        let first = |names: &[&str]| names.iter().map(|name| root.join(name)).find(|path| path.is_dir());
        (first(&["cpu,cpuacct", "cpu", "cpuacct,cpu"]), first(&["memory"]))
    };
    if cpu.is_none() && memory.is_none() {
        return missing("has no cgroups");
    }
    let mut found = CgroupFigures::default();
    let mut any = false;
    let mut kinds = [(cpu, true), (memory, false)].into_iter().filter_map(|(tree, cpu)| Some((tree?, cpu)));
    let mut failed = None;
    kinds.try_for_each(|(tree, is_cpu)| match folder_of(&tree, pod, until) {
        Ok(Some(folder)) => {
            any = true;
            if is_cpu {
                take_cpu(&folder, &mut found);
            } else {
                take_memory(&folder, v2, &mut found);
            }
            Some(())
        }
        Ok(None) => Some(()),
        Err(error) => {
            failed = Some(super::unread(&tree.display().to_string(), &error));
            None
        }
    });
    match failed {
        Some(reading) => reading,
        None if any => Reading::Read(found),
        None => {
            missing("does not show the node's pods: neither hostPID nor the host's cgroups are given to this process")
        }
    }
}

/// The folder of a pod. Breadth first: pods lie three or four levels down, whichever driver made them.
fn folder_of(tree: &Path, pod: &PodUid, until: Instant) -> io::Result<Option<PathBuf>> {
    let mut queue = VecDeque::from([(tree.to_path_buf(), 0_u8)]);
    let mut seen = 0_usize;
    while let Some((folder, depth)) = queue.pop_front() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // It went while it was looked for.
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if depth > 0 => {
                tracing::debug!(folder = %folder.display(), %error, "a cgroup cannot be read");
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in entries.flatten() {
            seen += 1;
            if seen > FOLDERS || Instant::now() > until {
                return Ok(None);
            }
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            let inside = path.strip_prefix(tree).unwrap_or(&path).to_string_lossy().into_owned();
            if let Some(found) = of_path(&inside) {
                if found.pod == *pod {
                    return Ok(Some(path));
                }
                // Another pod: nothing of ours lies below.
                continue;
            }
            let kube = ["kube", "besteffort", "burstable", "guaranteed"].iter().any(|part| name.contains(part));
            if kube && depth < 6 {
                queue.push_back((path, depth + 1));
            }
        }
    }
    Ok(None)
}

/// The pod's own folder and those of its containers: a quota is on either.
fn folders(pod: &Path) -> Vec<PathBuf> {
    let children = fs::read_dir(pod).into_iter().flatten().flatten();
    let folders = children.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path());
    std::iter::once(pod.to_path_buf()).chain(folders.take(CONTAINERS)).collect()
}

fn take_cpu(pod: &Path, found: &mut CgroupFigures) {
    for folder in folders(pod) {
        let Some(text) = text(&folder.join("cpu.stat")) else { continue };
        let mut one = CgroupFigures::default();
        one.take_cpu(&text);
        // The one that is throttled most is the one that matters.
        if one.throttled >= found.throttled {
            (found.periods, found.throttled, found.throttled_us) = (one.periods, one.throttled, one.throttled_us);
        }
    }
}

fn take_memory(pod: &Path, v2: bool, found: &mut CgroupFigures) {
    let [current, max, events] = if v2 {
        ["memory.current", "memory.max", "memory.events"]
    } else {
        ["memory.usage_in_bytes", "memory.limit_in_bytes", "memory.oom_control"]
    };
    for folder in folders(pod) {
        let mut one = CgroupFigures::default();
        if let Some(text) = text(&folder.join(events)) {
            one.take_events(&text);
        }
        found.oom_kills = found.oom_kills.max(one.oom_kills);
        let limit = text(&folder.join(max)).and_then(|text| number(&text));
        if limit.is_some() && (found.memory_max.is_none() || limit < found.memory_max) {
            found.memory_max = limit;
            found.memory = text(&folder.join(current)).and_then(|text| number(&text));
        }
    }
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::time::Duration;

    use super::*;

    const UID: &str = "2bf7403e-b9ca-4824-a7e9-d57a9dcdcc2a";
    const ID: &str = "b296bd6bd9fba4fa5fea4ee61eb64a737c4390fbfb0e3cca528735cf9689ec18";

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    async fn of(root: &Path) -> Reading<CgroupFigures> {
        let limits = Limits { within: Duration::from_secs(5), bytes: 1 << 20 };
        cgroup(root.to_path_buf(), UID.into(), limits).await
    }

    #[tokio::test]
    async fn systemd_and_the_unified_hierarchy() {
        let root = tempfile::tempdir().unwrap();
        put(root.path().join("cgroup.controllers"), "cpu memory\n");
        let pod = root.path().join(format!(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
            UID.replace('-', "_")
        ));
        let container = pod.join(format!("cri-containerd-{ID}.scope"));
        put(pod.join("cpu.stat"), "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n");
        put(container.join("cpu.stat"), "nr_periods 40\nnr_throttled 31\nthrottled_usec 900\n");
        put(container.join("memory.current"), "170000000\n");
        put(container.join("memory.max"), "178257920\n");
        put(container.join("memory.events"), "oom 1\noom_kill 1\n");
        let figures = of(root.path()).await;
        let figures = figures.value().unwrap();
        assert_eq!((figures.periods, figures.throttled, figures.throttled_us), (Some(40), Some(31), Some(900)));
        assert_eq!(
            (figures.memory, figures.memory_max, figures.oom_kills),
            (Some(170_000_000), Some(178_257_920), Some(1))
        );
    }

    #[tokio::test]
    async fn cgroupfs_and_one_tree_per_controller() {
        let root = tempfile::tempdir().unwrap();
        let pod = format!("kubepods/burstable/pod{UID}/{ID}");
        put(
            root.path().join("cpu,cpuacct").join(&pod).join("cpu.stat"),
            "nr_periods 9\nnr_throttled 8\nthrottled_time 5000\n",
        );
        put(root.path().join("memory").join(&pod).join("memory.oom_control"), "under_oom 0\noom_kill 4\n");
        put(root.path().join("memory").join(&pod).join("memory.limit_in_bytes"), "178257920\n");
        put(root.path().join("memory").join(&pod).join("memory.usage_in_bytes"), "1000\n");
        let figures = of(root.path()).await;
        let figures = figures.value().unwrap();
        assert_eq!(
            (figures.throttled, figures.throttled_us, figures.oom_kills, figures.memory),
            (Some(8), Some(5), Some(4), Some(1000))
        );
    }

    #[tokio::test]
    async fn what_is_not_shown_is_said() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(of(root.path()).await, Reading::NotPresent(why) if why.contains("no cgroups")));
        put(root.path().join("cgroup.controllers"), "cpu memory\n");
        assert!(matches!(of(root.path()).await, Reading::NotPresent(why) if why.contains("hostPID")));
        let gone = root.path().join("gone");
        assert!(matches!(of(&gone).await, Reading::NotPresent(_)));
    }
}
