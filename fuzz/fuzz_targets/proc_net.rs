//! Tables of /proc/net: udp, tcp, snmp, netstat, stat/nf_conntrack.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    nameward_kernel::procnet::parse_any(data);
});
