//! Netlink attributes as netfilter spells them: numbers in network order.

/// `NLA_F_NESTED | NLA_F_NET_BYTEORDER`.
const FLAGS: u16 = 0xc000;
/// Octets of an attribute's header.
const HEADER: usize = 4;

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its number.
    pub kind: u16,
    /// Its octets.
    pub value: &'a [u8],
}

impl Attribute<'_> {
    /// As a number of four octets.
    #[must_use]
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// As a number of eight octets.
    #[must_use]
    pub fn u64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.try_into().ok()?))
    }

    /// As text that ends with a zero, of at most `most` octets.
    #[must_use]
    pub fn text(&self, most: usize) -> Option<String> {
        let end = self.value.iter().position(|octet| *octet == 0).unwrap_or(self.value.len());
        let text = self.value.get(..end).filter(|text| text.len() <= most)?;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }
}

/// The attributes in some octets, as far as they are well formed.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & !FLAGS;
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    })
}
