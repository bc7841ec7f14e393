//! `/proc/PID/cgroup`: which pod a process belongs to.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = nameward_kernel::cgroup::parse(data);
});
