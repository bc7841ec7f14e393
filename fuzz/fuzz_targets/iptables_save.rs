//! `iptables-save -c`, and the comparison with what kube-proxy should have written.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(set) = nameward_kernel::iptables::parse_bytes(data) {
        // What was read can be written, and reads the same again.
        let written = set.render();
        let again = nameward_kernel::iptables::parse_bytes(written.as_bytes());
        assert_eq!(again.ok(), Some(set), "{written}");
    }
});
