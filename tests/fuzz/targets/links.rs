//! A list of hard links.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zagi_fuzz::format::content::Links;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = Links::decode(bytes) {
        assert_eq!(value.encode().as_deref(), Ok(bytes));
    }
});
