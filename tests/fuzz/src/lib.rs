//! Fuzz targets of the store's format and of the delta's log: hostile bytes for every reader, and for values that
//! are read, that what is written again is the same.
//!
//! ```text
//! cargo install cargo-fuzz
//! mkdir -p tests/fuzz/found/pack
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz pack \
//!     tests/fuzz/found/pack tests/fuzz/corpus/pack -- \
//!     -max_total_time=300 -malloc_limit_mb=128 -rss_limit_mb=1024
//! ```
//!
//! What is found goes to the first directory; `corpus/` is what began it, a few small sound
//! values of each kind, and is committed. `malloc_limit_mb` is the bound on what a reader
//! may allocate at once: the longest record, and a little. Hashes are in the way of a
//! fuzzer, so the targets put right ones where a reader looks for them.
//!
//! The store's format alone is compiled in here, through a symbolic link, and not the whole
//! program, which would take minutes.

// Less is used here than in the program.
#[allow(dead_code)]
pub mod format;

/// The BLAKE3 hash of some parts, one after the other.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}
