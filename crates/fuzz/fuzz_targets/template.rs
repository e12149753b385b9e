//! A template in each of its places: what is filled in breaks out of none.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| surgeline_fuzz::template(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    surgeline_fuzz::replay(surgeline_fuzz::template)
}
