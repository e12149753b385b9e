//! Blocks of HPACK fields, one after the other: decoded or refused, never more than they can mean.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| surgeline_fuzz::fields(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    surgeline_fuzz::replay(surgeline_fuzz::fields)
}
