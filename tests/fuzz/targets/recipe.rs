//! A list of chunks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zagi_fuzz::format::content::Recipe;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = Recipe::decode(bytes) {
        assert_eq!(value.encode().as_deref(), Ok(bytes));
    }
});
