//! Programs on links that act before or after netfilter.

use std::collections::BTreeMap;

use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use netlink_packet_route::tc::{TcAttribute, TcMessage};

use super::{DumpError, gather};
use crate::facts::Bypass;

/// XDP programs and classifiers of every link. A kernel without traffic control has no classifiers.
pub(super) async fn programs(handle: &rtnetlink::Handle) -> Result<Bypass, DumpError> {
    let links = gather(handle.link().get().execute(), link).await?;
    let names: BTreeMap<i32, &str> =
        links.iter().filter_map(|(index, name, _)| Some((i32::try_from(*index).ok()?, name.as_str()))).collect();
    let classified = gather(handle.qdisc().get().execute(), classifier).await.unwrap_or_default();
    let mut classifiers: Vec<String> =
        classified.iter().filter_map(|index| names.get(index)).map(|name| (*name).to_owned()).collect();
    classifiers.sort();
    classifiers.dedup();
    let xdp = links.iter().filter(|(.., xdp)| *xdp).map(|(_, name, _)| name.clone()).collect();
    Ok(Bypass { xdp, classifiers, ..Bypass::default() })
}

fn link(message: LinkMessage) -> Option<(u32, String, bool)> {
    let (mut name, mut xdp) = (None, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Xdp(parts) => {
                xdp = parts.iter().any(|part| matches!(part, LinkXdp::Attached(how) if *how != XdpAttached::None));
            }
            _ => {}
        }
    }
    Some((message.header.index, name?, xdp))
}

fn classifier(message: TcMessage) -> Option<i32> {
    let is = |kind: &str| matches!(kind, "clsact" | "ingress");
    let found = message.attributes.iter().any(|a| matches!(a, TcAttribute::Kind(kind) if is(kind)));
    found.then_some(message.header.index)
}
