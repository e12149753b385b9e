//! The head of an answer, whole and cut anywhere: the same is read.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| surgeline_fuzz::head(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    surgeline_fuzz::replay(surgeline_fuzz::head)
}
