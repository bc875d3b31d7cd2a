//! Fuzzes `prober_tests::fuzzing::banner`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    prober_tests::fuzzing::banner(data);
});
