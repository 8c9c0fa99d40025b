#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mvllm_fuzz::fleet_events::check(input));
