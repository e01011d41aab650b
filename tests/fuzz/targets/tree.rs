//! A directory's record.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zagi_fuzz::format::TreeId;
use zagi_fuzz::format::tree::{CONTEXT, decode, encode};

/// The id that the record would have, if its columns are as long as it says.
fn id_of(bytes: &[u8]) -> Option<TreeId> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let count = word(4)? as usize;
    let kinds = bytes.get(8..)?.get(..count)?;
    let lengths = bytes.get(8 + count..)?.get(..count)?;
    let number = |of: &[u8]| kinds.iter().filter(|kind| of.contains(kind)).count();
    let names = 8 + 2 * count;
    let sizes = names + lengths.iter().map(|length| usize::from(*length)).sum::<usize>();
    let ids = sizes + 8 * number(&[1, 2]);
    let target_lengths = ids + 32 * number(&[1, 2, 3]);
    let targets = target_lengths + 2 * number(&[4]);

    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&(count as u32).to_le_bytes());
    let (mut name, mut id, mut link, mut target) = (names, ids, target_lengths, targets);
    for (kind, length) in kinds.iter().zip(lengths) {
        hasher.update(&[*kind]).update(&u16::from(*length).to_le_bytes());
        hasher.update(bytes.get(name..name + usize::from(*length))?);
        name += usize::from(*length);
        if *kind == 4 {
            let length = u16::from_le_bytes(bytes.get(link..link + 2)?.try_into().ok()?);
            hasher.update(&u32::from(length).to_le_bytes());
            hasher.update(bytes.get(target..target + usize::from(length))?);
            (link, target) = (link + 2, target + usize::from(length));
        } else {
            hasher.update(bytes.get(id..id + 32)?);
            id += 32;
        }
    }
    Some(TreeId::from_bytes(*hasher.finalize().as_bytes()))
}

fuzz_target!(|bytes: &[u8]| {
    let id = id_of(bytes).unwrap_or(TreeId::from_bytes([0; 32]));
    if let Ok(entries) = decode(&id, bytes) {
        assert_eq!(encode(&entries), Ok((id, bytes.to_vec())));
    }
});
