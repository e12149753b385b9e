//! A chunked body, whole and cut anywhere: the same comes out.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| surgeline_fuzz::chunks(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    surgeline_fuzz::replay(surgeline_fuzz::chunks)
}
