//! Sysctls per device and the kernel's neighbour table.

use std::collections::BTreeMap;
use std::fs;

use super::proc::bounded;
use super::{Limits, unread, unreadable};
use crate::enter::{EnterPool, Netns};
use crate::facts::{NeighbourStat, Reading};
use crate::procnet;

/// Most devices whose sysctls are read.
pub const MAX_DEVICES: usize = 1024;
/// A sysctl of a device is a number.
const VALUE: u64 = 64;

/// `net.ipv4.conf.DEVICE.NAME` for every device (`all` and `default` among them), of each name.
pub(super) fn per_device(names: &[&str]) -> Vec<BTreeMap<String, i64>> {
    const FOLDER: &str = "/proc/sys/net/ipv4/conf";
    let mut all = vec![BTreeMap::new(); names.len()];
    // What cannot be read is left out: a device may be gone by now.
    let Ok(devices) = fs::read_dir(FOLDER) else { return all };
    for device in devices.flatten().take(MAX_DEVICES) {
        let Ok(device) = device.file_name().into_string() else { continue };
        for (name, values) in names.iter().zip(&mut all) {
            let value = bounded(&format!("{FOLDER}/{device}/{name}"), VALUE).ok();
            if let Some(value) = value.as_deref().and_then(procnet::sysctl) {
                values.insert(device.clone(), value);
            }
        }
    }
    all
}

/// Counters of the kernel's neighbour table for IPv4. The table is one for the whole kernel, and the file is in the initial
/// namespace alone.
pub async fn neighbour_stat(pool: &EnterPool, namespace: &Netns, limits: Limits) -> Reading<NeighbourStat> {
    const FILE: &str = "/proc/thread-self/net/stat/arp_cache";
    let inside = pool.run(namespace, move || bounded(FILE, limits.bytes));
    match tokio::time::timeout(limits.within, inside).await {
        Ok(Ok(Ok(text))) => match procnet::neighbour_stat(&text) {
            Ok(stat) => Reading::Read(stat),
            Err(why) => Reading::Failed(format!("{FILE}: {why}")),
        },
        Ok(Ok(Err(error))) => unread(FILE, &error),
        Ok(Err(error)) => unreadable(&error),
        Err(_) => Reading::Failed(format!("{FILE} was not read within {:?}", limits.within)),
    }
}
