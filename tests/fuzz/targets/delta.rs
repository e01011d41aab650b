//! A delta, and its patches applied to bytes that are no base of theirs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zagi_fuzz::format::delta::{Delta, MAX_PIECE};

fuzz_target!(|bytes: &[u8]| {
    let Ok(delta) = Delta::decode(bytes) else { return };
    assert_eq!(delta.encode().as_deref(), Ok(bytes));
    // The sum of the pieces is bounded by what a reader does with them, not by the record.
    for (piece, patch) in delta.patches().take(4) {
        let part = &bytes[..bytes.len().min(piece.part as usize)];
        if let Ok(content) = piece.apply(part, patch) {
            assert!(content.len() == piece.length as usize && content.len() <= MAX_PIECE);
        }
    }
});
