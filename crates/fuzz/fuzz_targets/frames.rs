//! Frames of an HTTP/2 server, whole and cut anywhere: the same comes of them.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| surgeline_fuzz::frames(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    surgeline_fuzz::replay(surgeline_fuzz::frames)
}
