//! What CoreDNS's HTTP ports say: the text of /metrics, and the body of /ready.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = nameward_kernel::coredns::parse_bytes(data);
    let _ = nameward_kernel::coredns::waiting_on(data);
});
