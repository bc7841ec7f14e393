//! Accounting objects of netfilter, which kube-proxy's drop of INVALID packets counts into.

use std::io;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use std::os::fd::AsRawFd as _;

/// The object that kube-proxy's rule names.
pub(super) const INVALID_DROPPED: &str = "ct_state_invalid_dropped_pkts";

/// `NFNL_SUBSYS_ACCT << 8 | NFNL_MSG_ACCT_NEW`.
const ACCT_NEW: u16 = 7 << 8;

/// `NFACCT_NAME`.
const NAME: u16 = 1;

/// Makes an object in the namespace of the calling thread; one that exists is left as it is.
pub(super) fn create(name: &str) -> io::Result<()> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    send(socket.as_raw_fd(), &message(name)?, MsgFlags::empty())?;
    let mut reply = [0_u8; 256];
    let length = recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    // nlmsghdr is 16 bytes; an acknowledgement (NLMSG_ERROR) has minus the error number behind it.
    let error = reply.get(..length).and_then(|r| r.get(16..20)).and_then(|b| <[u8; 4]>::try_from(b).ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(minus) => match Errno::from_raw(minus.saturating_neg()) {
            Errno::EBUSY | Errno::EEXIST => Ok(()),
            errno => Err(errno.into()),
        },
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn message(name: &str) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    // Attribute: length, type, NUL-terminated text, padding to four bytes.
    let attribute_length = 4 + name.len() + 1;
    let mut body = vec![0_u8; 4];
    body.extend(u16::try_from(attribute_length).map_err(too_long)?.to_ne_bytes());
    body.extend(NAME.to_ne_bytes());
    body.extend(name.as_bytes());
    body.push(0);
    body.resize(body.len().next_multiple_of(4), 0);
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE).map_err(too_long)?;
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend(u32::try_from(16 + body.len()).map_err(too_long)?.to_ne_bytes());
    message.extend(ACCT_NEW.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    Ok(message)
}
