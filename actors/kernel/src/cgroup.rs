//! `/proc/PID/cgroup`: which pod and container a process belongs to.
//!
//! Spellings: the cgroupfs driver's `kubepods/burstable/podUID/ID`, the systemd driver's
//! `kubepods-burstable-podUID_WITH_UNDERSCORES.slice/cri-containerd-ID.scope` (`crio-`, `docker-`), with any prefix before.

use nameward_messages::PodUid;

pub mod figures;

/// Longest file that is looked at, bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// What a cgroup path says of its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The pod. A static pod has the hash of its file here, not the uid of its mirror in the API.
    pub pod: PodUid,
    /// The container, when the path goes down to one.
    pub container: Option<String>,
}

/// Reads `/proc/PID/cgroup`; `None` for a process outside any pod. Never fails: what is not understood is passed over.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Membership> {
    let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
    String::from_utf8_lossy(bytes).lines().find_map(|line| of_path(line.splitn(3, ':').nth(2)?))
}

/// The same for one path.
#[must_use]
pub fn of_path(path: &str) -> Option<Membership> {
    let mut parts = path.split('/');
    let pod = parts.by_ref().find_map(pod_of)?;
    let container = parts.next().and_then(container_of);
    Some(Membership { pod, container })
}

fn pod_of(part: &str) -> Option<PodUid> {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None if name.contains("kubepods") => name.rsplit_once("-pod")?.1,
        None => return None,
    };
    let uid = uid.replace('_', "-");
    let hex = uid.chars().filter(char::is_ascii_hexdigit).count();
    let whole =
        hex == 32 && (uid.len() == 32 || uid.len() == 36) && uid.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    whole.then_some(PodUid(uid))
}

fn container_of(part: &str) -> Option<String> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let id = ["cri-containerd-", "crio-", "docker-"].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    let plain = id.len() >= 12 && id.len() <= 128 && id.chars().all(|c| c.is_ascii_hexdigit());
    plain.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "2bf7403e-b9ca-4824-a7e9-d57a9dcdcc2a";
    const ID: &str = "b296bd6bd9fba4fa5fea4ee61eb64a737c4390fbfb0e3cca528735cf9689ec18";

    #[test]
    fn the_recorded_spelling() {
        for folder in ["iptables", "nftables"] {
            for file in ["pod-client.proc-cgroup.txt", "pod-coredns.proc-cgroup.txt"] {
                let found = parse(&std::fs::read(crate::recordings().join(folder).join(file)).unwrap()).unwrap();
                assert_eq!((found.pod.0.len(), found.container.unwrap().len()), (36, 64));
            }
        }
    }

    #[test]
    fn the_other_spellings() {
        let underscored = UID.replace('-', "_");
        for path in [
            format!("/kubepods/pod{UID}/{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{underscored}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{underscored}.slice/crio-{ID}.scope"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{underscored}.slice/docker-{ID}.scope"
            ),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{underscored}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/../../kubepods-besteffort-pod{underscored}.slice/cri-containerd-{ID}.scope"),
            format!("/../../../besteffort/pod{UID}/{ID}"),
        ] {
            let found = parse(format!("0::{path}\n").as_bytes()).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((found.pod.as_str(), found.container.as_deref()), (UID, Some(ID)), "{path}");
        }
        assert_eq!(of_path(&format!("/kubepods/pod{UID}")).unwrap().container, None);
        let mirror = of_path("/kubepods/burstable/pod0123456789abcdef0123456789abcdef/x").unwrap();
        assert_eq!((mirror.pod.0.len(), mirror.container), (32, None));
    }

    #[test]
    fn what_is_no_pod() {
        for path in
            ["/", "/system.slice/containerd.service", "/user.slice/podman.slice", "/podcast", "/kubepods/pod../x"]
        {
            assert_eq!(of_path(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
