//! A pack from its first byte to its last: header, footer, frames.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zagi_fuzz::format::pack::{FRAME_HEADER, Footer, FrameHeader, HEADER, TRAILER, check_header};
use zagi_fuzz::hash;

/// Puts right hashes where they stand in the tail of a pack.
fn mend_tail(bytes: &mut [u8]) -> Option<()> {
    let at = bytes.len().checked_sub(TRAILER)?;
    let offset = u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?);
    let begin = usize::try_from(offset).ok().filter(|begin| *begin <= at)?;
    let found = hash(&[&bytes[begin..at + 16]]);
    bytes[at + 16..at + 48].copy_from_slice(&found);
    Some(())
}

/// Puts the right hash into the frame at `at`, whose stored bytes are `length` long.
fn mend_frame(bytes: &mut [u8], at: usize, length: usize) -> Option<()> {
    let end = at.checked_add(FRAME_HEADER)?.checked_add(length)?;
    let frame = bytes.get_mut(at..end)?;
    let found = hash(&[&frame[..16], &frame[FRAME_HEADER..]]);
    frame[16..FRAME_HEADER].copy_from_slice(&found);
    Some(())
}

fuzz_target!(|input: &[u8]| {
    let _ = Footer::decode(input);
    let mut bytes = input.to_vec();
    let _ = mend_tail(&mut bytes);
    let size = bytes.len();
    let _ = bytes.get(..HEADER).map(check_header);
    let Some(at) = size.checked_sub(TRAILER) else { return };
    let Ok(tail) = Footer::tail_offset(&bytes[at..], size as u64) else { return };
    let Some(tail_bytes) = bytes.get(tail as usize..) else { return };
    let Ok((footer, whole)) = Footer::decode(tail_bytes) else { return };
    assert_eq!(whole, size as u64);
    assert_eq!(
        footer.encode(tail)[..tail_bytes.len() - TRAILER],
        tail_bytes[..tail_bytes.len() - TRAILER]
    );
    for frame in &footer.frames {
        let at = frame.offset as usize;
        let _ = mend_frame(&mut bytes, at, frame.stored as usize);
        let body = at + FRAME_HEADER;
        let Ok(header) = FrameHeader::decode(&bytes[at..body]) else { continue };
        let Some(stored) = bytes.get(body..body + header.stored as usize) else { continue };
        let _ = header.decode_body(stored.to_vec());
    }
});
