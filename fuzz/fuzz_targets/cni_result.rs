//! An entry of the CNI result cache.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = nameward_kernel::cni::parse(data);
});
