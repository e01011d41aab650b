//! Decoded frames, kept in memory for a while.

use std::collections::VecDeque;
use std::sync::Arc;

use super::format::PackId;

/// Frames are kept up to this many bytes in all.
const FRAME_CACHE: usize = 16 << 20;

/// The frames that were decoded last, the newest at the back.
#[derive(Default)]
pub struct FrameCache {
    frames: VecDeque<(PackId, u64, Arc<Vec<u8>>)>,
    bytes: usize,
}

impl FrameCache {
    /// The frame at that offset of the pack, if it is here.
    pub fn get(&mut self, (pack, offset): (PackId, u64)) -> Option<Arc<Vec<u8>>> {
        let at = self.frames.iter().rposition(|(p, o, _)| (*p, *o) == (pack, offset))?;
        let found = self.frames.remove(at)?;
        let frame = Arc::clone(&found.2);
        self.frames.push_back(found);
        Some(frame)
    }

    /// Keeps a frame, if it is not too large.
    pub fn put(&mut self, (pack, offset): (PackId, u64), frame: &Arc<Vec<u8>>) {
        if frame.len() > FRAME_CACHE / 4 {
            return;
        }
        self.bytes += frame.len();
        self.frames.push_back((pack, offset, Arc::clone(frame)));
        while self.bytes > FRAME_CACHE {
            let Some((.., oldest)) = self.frames.pop_front() else { return };
            self.bytes -= oldest.len();
        }
    }
}
