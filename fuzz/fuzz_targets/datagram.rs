//! Fuzzes `prober_tests::fuzzing::datagram`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    prober_tests::fuzzing::datagram(data);
});
