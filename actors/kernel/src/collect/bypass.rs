//! Data planes that no rule set shows: IPVS, XDP, classifiers on links.

use std::io;

use super::Limits;
use super::proc::bounded;
use crate::enter::{EnterPool, Netns};
use crate::facts::{Bypass, Reading};
use crate::rtnl;

const IP_VS: &str = "/proc/thread-self/net/ip_vs";

/// What of them a namespace has.
pub async fn bypass(pool: &EnterPool, namespace: &Netns, limits: Limits) -> Reading<Bypass> {
    let services = pool.run(namespace, move || match bounded(IP_VS, limits.bytes) {
        Ok(text) => Some(virtual_services(&text)),
        // Longer than may be read: there are many.
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Some(u32::MAX),
        Err(_) => None,
    });
    let (services, programs) = tokio::join!(
        async { tokio::time::timeout(limits.within, services).await.ok().and_then(Result::ok).flatten() },
        rtnl::programs(pool, namespace, limits.within),
    );
    match programs {
        Reading::Read(found) => {
            Reading::Read(Bypass { ipvs: services.is_some(), ipvs_services: services.unwrap_or(0), ..found })
        }
        other => other,
    }
}

/// Lines that begin a virtual service (`Documentation/networking/ipvs-sysctl.rst` shows none; the format is that of
/// `ip_vs_info_seq_show`): protocol, address and port in hexadecimal.
fn virtual_services(text: &str) -> u32 {
    let begins = |line: &&str| ["TCP ", "UDP ", "SCTP "].iter().any(|p| line.starts_with(p));
    u32::try_from(text.lines().filter(begins).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::virtual_services;

    #[test]
    fn virtual_services_are_counted_and_their_destinations_are_not() {
        let text = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
                    -> RemoteAddress:Port Forward Weight ActiveConn InActConn\nUDP  0A60000A:0035 rr\n  \
                    -> 0AF40133:0035      Masq    1      0          0\nTCP  0A60000A:0035 rr\n";
        assert_eq!(virtual_services(text), 2);
        assert_eq!(virtual_services(""), 0);
    }
}
