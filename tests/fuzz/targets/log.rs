//! The log of a workspace's delta: refused, or a state whose compaction says the same.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use zagi_fuse::delta::format::{
    FRAME_HEADER_LEN, FRAME_MAGIC, HEADER_LEN, MAX_PAYLOAD, checksum, frame, header,
};
use zagi_fuse::delta::{Index, replay};

/// The same frames with right headers.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut log = header().to_vec();
    let mut rest = bytes.get(HEADER_LEN..).unwrap_or_default();
    while let Some((head, body)) = rest.split_first_chunk::<FRAME_HEADER_LEN>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (payload, next) = body.split_at(length.min(body.len()).min(MAX_PAYLOAD));
        log.extend(FRAME_MAGIC);
        log.extend((payload.len() as u32).to_le_bytes());
        log.extend(checksum(payload));
        log.extend(payload);
        rest = next;
    }
    log
}

fn compacted(index: &Index) -> Vec<u8> {
    let mut log = header().to_vec();
    for ops in index.snapshot() {
        log.extend(frame(&ops).expect("what was read fits"));
    }
    log
}

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("log");
    let _ = replay(path, bytes);
    let Ok(replayed) = replay(path, &mended(bytes)) else { return };
    let once = compacted(&replayed.index);
    let again = replay(path, &once).expect("what was written is read");
    assert!(compacted(&again.index) == once);
});
