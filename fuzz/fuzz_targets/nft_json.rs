//! `nft -j list ruleset`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = nameward_kernel::nft::parse(data);
    let _ = nameward_kernel::nft::survey(data);
});
