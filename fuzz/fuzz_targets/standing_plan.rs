//! Fuzzes `prober_tests::fuzzing::standing_plan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    prober_tests::fuzzing::standing_plan(data);
});
