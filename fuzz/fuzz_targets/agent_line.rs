//! Fuzzes `prober_tests::fuzzing::agent_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    prober_tests::fuzzing::agent_line(data);
});
