//! A pod's resolv.conf, which its owner writes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = nameward_kernel::resolv::parse(data);
});
