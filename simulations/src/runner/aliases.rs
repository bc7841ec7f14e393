//! Names that a scenario's author can know beforehand, for pods whose real names are made up at run time.

use std::collections::BTreeMap;

/// `coredns@node1` for the first CoreDNS pod of node1, `coredns-2@node1` for the one after it, and so on.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    by_uid: BTreeMap<String, String>,
    keys: BTreeMap<String, String>,
    count: BTreeMap<String, u32>,
}

impl Aliases {
    /// Names a pod when it starts. `key` is `namespace/name`.
    pub(super) fn add(&mut self, uid: &str, key: &str, node: &str, coredns: bool) -> String {
        let alias = if coredns {
            let n = self.count.entry(node.to_owned()).or_insert(0);
            *n += 1;
            if *n == 1 { format!("coredns@{node}") } else { format!("coredns-{n}@{node}") }
        } else {
            // Client pods belong to DaemonSets called `client-1`, `client-2`, …: their names have one part more.
            let name = key.rsplit('/').next().unwrap_or(key);
            format!("{}@{node}", name.rsplit_once('-').map_or(name, |(set, _)| set))
        };
        self.by_uid.insert(uid.to_owned(), alias.clone());
        self.keys.insert(alias.clone(), key.to_owned());
        alias
    }

    /// The alias of a pod.
    pub(super) fn of(&self, uid: &str) -> Option<&str> {
        self.by_uid.get(uid).map(String::as_str)
    }

    /// The alias of a pod by `namespace/name`: the youngest of that name.
    pub(super) fn of_key(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(_, k)| *k == key).map(|(alias, _)| alias.as_str())
    }

    /// `namespace/name` of an alias.
    pub(super) fn key(&self, alias: &str) -> Option<&str> {
        self.keys.get(alias).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_named_by_node_and_order() {
        let mut aliases = Aliases::default();
        assert_eq!(aliases.add("u1", "kube-system/coredns-a", "node1", true), "coredns@node1");
        assert_eq!(aliases.add("u2", "kube-system/coredns-b", "node2", true), "coredns@node2");
        assert_eq!(aliases.add("u3", "kube-system/coredns-c", "node1", true), "coredns-2@node1");
        assert_eq!(aliases.add("u4", "default/client-1-x7k2p", "node2", false), "client-1@node2");
        assert_eq!(aliases.of("u3"), Some("coredns-2@node1"));
        assert_eq!(aliases.key("coredns@node2"), Some("kube-system/coredns-b"));
    }
}
