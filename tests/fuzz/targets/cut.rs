//! Where contents are cut, with whatever the buffer holds after the longest chunk; and what a
//! frame, or a patch, of any content becomes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zagi_fuzz::format::content::{BINARY, Parameters, TEXT};
use zagi_fuzz::format::delta::{Piece, make_patch};
use zagi_fuzz::format::pack::{FRAME_HEADER, FrameHeader, compressor, encode_frame};

fn check(parameters: Parameters, content: &[u8]) {
    let mut rest = content;
    while !rest.is_empty() {
        let cut = parameters.cut(rest);
        assert!(cut <= parameters.max && (cut >= parameters.min || cut == rest.len()));
        let seen = &rest[..rest.len().min(parameters.max)];
        assert_eq!(parameters.cut(seen), cut);
        rest = &rest[cut..];
    }
}

fuzz_target!(|input: &[u8]| {
    let [times, input @ ..] = input else { return };
    // Inputs are short, chunks are not.
    let most = 1 + 2 * BINARY.max / input.len().max(1);
    let content = input.repeat(most.min(1 + usize::from(*times) * 4));
    check(TEXT, &content);
    check(BINARY, &content);

    let Ok(mut zstd) = compressor(3) else { return };
    let frame = encode_frame(&content, &mut zstd).expect("it is short enough");
    let (header, stored) = frame.split_at(FRAME_HEADER);
    let header = FrameHeader::decode(header).expect("it was just made");
    assert_eq!(header.decode_body(stored.to_vec()).as_ref(), Ok(&content));

    let (base, piece) = content.split_at(content.len() / 3);
    if !piece.is_empty() {
        let patch = make_patch(base, piece).expect("zstd takes everything");
        let length = piece.len() as u32;
        let told = Piece { offset: 0, part: 0, length, patch: 0 };
        assert_eq!(told.apply(base, &patch).as_deref(), Ok(piece));
    }
});
