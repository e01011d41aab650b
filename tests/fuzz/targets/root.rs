//! The files of refs and leases.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zagi_fuzz::format::root::Sort;
use zagi_fuzz::hash;

fuzz_target!(|input: &[u8]| {
    // The last line is replaced by the right one.
    let body = match input.windows(6).rposition(|part| part == b"\nhash ") {
        Some(at) => &input[..at + 1],
        None => input,
    };
    let found: String = hash(&[body]).iter().map(|byte| format!("{byte:02x}")).collect();
    let mended = [body, format!("hash {found}\n").as_bytes()].concat();
    for bytes in [input, &mended] {
        for sort in [Sort::Ref, Sort::Lease] {
            if let Ok(root) = sort.decode(bytes) {
                assert_eq!(sort.encode(&root).as_bytes(), bytes);
            }
        }
    }
});
