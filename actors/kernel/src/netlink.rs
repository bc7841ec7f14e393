//! What every netlink request of our own is put together from.

/// `NLA_F_NESTED` (linux/netlink.h): the value is attributes.
pub(crate) const NESTED: u16 = 1 << 15;

/// One attribute: length, kind, value, padding to four octets.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(4 + value.len().next_multiple_of(4));
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
