//! Whether this process stands on a node of the cluster, in a pod of it, or outside.

/// What is known of the place without asking DNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// It was asked for (`--outside`).
    pub asked: bool,
    /// Configuration or environment name the node.
    pub node_stated: bool,
    /// The API is reached by a pod's own service account.
    pub in_pod: bool,
    /// Whether the API knows a node of this machine's name; `None`: it would not say.
    pub node_known: Option<bool>,
}

/// Where this process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a node or in a pod: cluster addresses are to be reached from here.
    Inside,
    /// Neither: they need not be.
    Outside,
}

/// Judges by the signs. In doubt this is a node: a node that is taken for a stranger would be silent about its own faults.
#[must_use]
pub fn place(signs: Signs) -> Place {
    let stranger = !signs.node_stated && !signs.in_pod && signs.node_known == Some(false);
    if signs.asked || stranger { Place::Outside } else { Place::Inside }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_places() {
        let stranger = Signs { node_known: Some(false), ..Signs::default() };
        for (what, signs, wanted) in [
            ("a laptop", stranger, Place::Outside),
            ("a node by its host's name", Signs { node_known: Some(true), ..Signs::default() }, Place::Inside),
            ("the API does not say", Signs::default(), Place::Inside),
            ("the node is stated", Signs { node_stated: true, ..stranger }, Place::Inside),
            ("a pod", Signs { in_pod: true, ..stranger }, Place::Inside),
            ("asked for on a node", Signs { asked: true, node_known: Some(true), ..Signs::default() }, Place::Outside),
        ] {
            assert_eq!(place(signs), wanted, "{what}");
        }
    }
}
