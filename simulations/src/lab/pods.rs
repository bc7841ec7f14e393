//! Pods of the lab: what the runtime and the CNI plugin do when a pod comes and goes.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::build::Lab;
use super::cni::{Attachment, file_names, resolv_conf};
use super::error::LabError;
use super::hidden::HOLD;
use super::netns::{Netns, path_of, unbind};
use super::spec::{CONTROL, Dns, Drawn, PodSpec, cni_results, netns_folder, pod_address, sandboxes};

/// A pod that is set up.
#[derive(Debug)]
pub struct Pod {
    /// As asked for.
    pub spec: PodSpec,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its network namespace, bound to `/run/netns/<name>`.
    pub netns: Netns,
    /// The id of its sandbox, 64 hexadecimal digits.
    pub container_id: String,
    /// The node's end of its veth pair.
    pub host_veth: String,
    /// Its sandbox's `resolv.conf`, which is also `/etc/resolv.conf` in its mount namespace.
    pub resolv_conf: PathBuf,
    /// Its entry of the `bridge` plugin in the CNI cache.
    pub cni_result: PathBuf,
    gateway: Ipv4Addr,
    paths: Vec<PathBuf>,
    holder: Child,
}

impl Pod {
    /// The process that holds its namespaces; `/proc/<pid>/root` is its root.
    #[must_use]
    pub fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// The gateway that it was given.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _already_dead = self.holder.kill();
        let _already_reaped = self.holder.wait();
    }
}

impl Lab {
    /// Sets a pod up on its node: namespaces, veth pair, address, route, sandbox files, CNI cache, holder. About 20 ms.
    ///
    /// # Errors
    ///
    /// If the node is unknown, the name is taken, the range is used up, or the kernel refuses.
    pub fn add_pod(&mut self, spec: PodSpec) -> Result<&Pod, LabError> {
        let key = spec.key();
        if self.pods.contains_key(&key) {
            return Err(LabError::Spec(format!("pod {key} is there already")));
        }
        let (host_mac, mac) = (self.mac(&format!("{}/host", spec.uid)), self.mac(&format!("{}/eth0", spec.uid)));
        let node = self
            .nodes
            .get_mut(&spec.node)
            .ok_or_else(|| LabError::Unknown { kind: "node", name: spec.node.clone() })?;
        // As host-local: the next address, so that one is not used again soon.
        let address = pod_address(node.number, node.next_host);
        node.next_host = node
            .next_host
            .checked_add(1)
            .filter(|next| *next < u8::MAX)
            .ok_or_else(|| LabError::Spec(format!("the range {} is used up", node.pod_range)))?;
        let drawn = Drawn::of(self.spec.seed, &spec.uid);
        let Drawn { container_id, netns: name, host_veth } = drawn;

        let own_path = netns_folder(&spec.node).join(&name);
        let netns = Netns::create(&name, std::slice::from_ref(&own_path))?;
        netns.sysctls(&[("net/ipv6/conf/default/accept_dad", "0"), ("net/ipv6/conf/all/accept_dad", "0")])?;
        node.netns.ip(&[
            format!("link add {host_veth} address {host_mac} type veth peer name eth0 address {mac} netns {name}"),
            format!("link set {host_veth} master cni0"),
            format!("link set {host_veth} type bridge_slave hairpin on"),
            format!("link set {host_veth} up"),
        ])?;
        netns.ip(&[
            format!("address add {address}/24 broadcast + dev eth0"),
            "link set eth0 up".into(),
            format!("route add default via {} dev eth0", node.gateway),
        ])?;

        let servers = match spec.dns {
            Dns::ClusterFirst => vec![self.spec.cluster_dns],
            Dns::Default => vec![CONTROL],
        };
        let sandbox = sandboxes(&spec.node).join(&container_id);
        std::fs::create_dir_all(&sandbox).map_err(LabError::file(&sandbox))?;
        write(&sandbox.join("resolv.conf"), &resolv_conf(&spec, &servers))?;
        write(&sandbox.join("hostname"), &format!("{}\n", spec.name))?;
        let attachment = Attachment {
            pod: &spec,
            container_id: &container_id,
            netns_path: format!("/var/run/netns/{name}"),
            host_veth: &host_veth,
            host_mac: &host_mac,
            mac: &mac,
            bridge_mac: &node.bridge_mac,
            address,
            gateway: node.gateway,
            range: node.pod_range.clone(),
            servers,
        };
        let holder = hold(&netns, &sandbox, &key)?;
        let gateway = node.gateway;
        let results = cni_results(&spec.node);
        let [bridge, loopback] = file_names(&container_id).map(|name| results.join(name));
        let (bridge_text, loopback_text) = (attachment.bridge().to_string(), attachment.loopback().to_string());
        let pod = Pod {
            address,
            resolv_conf: sandbox.join("resolv.conf"),
            cni_result: bridge.clone(),
            paths: vec![path_of(&name), own_path],
            netns,
            container_id,
            host_veth,
            gateway,
            holder,
            spec,
        };
        // The cache is written last, as the runtime does: who reads it finds a pod that is whole.
        write(&loopback, &loopback_text)?;
        write(&bridge, &bridge_text)?;
        Ok(self.pods.entry(key).insert_entry(pod).into_mut())
    }

    /// Takes a pod down as its runtime would: holder, veth pair, CNI cache, sandbox, namespace paths. Processes that the
    /// caller started in it are the caller's to end; they keep its namespace, cut off, until then.
    ///
    /// # Errors
    ///
    /// If there is no such pod, or a step fails.
    pub fn remove_pod(&mut self, key: &str) -> Result<(), LabError> {
        let pod = self.pods.remove(key).ok_or_else(|| LabError::Unknown { kind: "pod", name: key.into() })?;
        let results = cni_results(&pod.spec.node);
        for name in file_names(&pod.container_id) {
            let path = results.join(name);
            std::fs::remove_file(&path).map_err(LabError::file(path))?;
        }
        if let Some(node) = self.nodes.get(&pod.spec.node) {
            node.netns.ip(&[format!("link delete {}", pod.host_veth)])?;
        }
        let paths = pod.paths.clone();
        let sandbox = sandboxes(&pod.spec.node).join(&pod.container_id);
        drop(pod);
        unbind(&paths)?;
        std::fs::remove_dir_all(&sandbox).map_err(LabError::file(sandbox))
    }
}

/// Writes a file whole: readers see all of it or nothing.
pub(super) fn write(path: &Path, text: &str) -> Result<(), LabError> {
    // Not in the same folder: agents list it.
    let beside = Path::new("/run/sim/.new");
    std::fs::write(beside, text).map_err(LabError::file(beside))?;
    std::fs::rename(beside, path).map_err(LabError::file(path))
}

fn hold(netns: &Netns, sandbox: &Path, key: &str) -> Result<Child, LabError> {
    let mut command = netns.command("/proc/self/exe");
    command.arg(HOLD).arg(sandbox).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |source| LabError::Spawn { program: HOLD.into(), namespace: key.into(), source };
    let mut child = command.spawn().map_err(failed)?;
    let mut said = [0_u8; 6];
    let ready = child.stdout.take().map(|mut out| out.read_exact(&mut said));
    if matches!(ready, Some(Ok(()))) && &said == b"ready\n" {
        // Its error output is closed now; it has nothing more to say.
        child.stderr = None;
        return Ok(child);
    }
    let mut why = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        let _best_effort = pipe.read_to_string(&mut why);
    }
    let _already_dead = child.kill();
    let _already_reaped = child.wait();
    Err(LabError::Process { process: format!("holder of pod {key}"), why: why.trim().to_owned() })
}
