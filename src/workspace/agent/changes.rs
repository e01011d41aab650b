//! What changes in the workspace while an agent is at work there, as its mount tells: by whoever it
//! is changed.

use std::collections::BTreeSet;
use std::io::{self, PipeReader};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::grants;
use crate::context::Context;
use crate::secrets::place;
use crate::workspace::manage;

/// Of more than so many paths only the number is kept.
const MOST: usize = 200;
/// How long the last of them may take to be told.
const PAUSE: Duration = Duration::from_millis(100);
/// How long its mount may take to begin to tell.
const PATIENCE: Duration = Duration::from_secs(2);

/// Paths that were changed, relative to the workspace.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub paths: BTreeSet<String>,
    /// How many times others changed.
    pub more: u64,
}

/// Somebody who looks on.
pub(super) struct Watch {
    end: PipeReader,
    thread: JoinHandle<Changed>,
}

impl Watch {
    /// Looks on from now on. None where there is no way to end it again.
    pub fn start(ctx: &Context, root: &Path) -> Option<Watch> {
        let (end, output) = io::pipe().ok()?;
        let (ctx, root) = (ctx.clone(), root.to_owned());
        let (began, begins) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut changed = Changed::default();
            // Until the other end is dropped; a mount that goes is the end, too.
            let _ = manage::follow(&ctx, &root, &output, &mut |events| {
                // Nobody waits for more than the first.
                let _ = began.send(());
                for event in events.iter().filter(|event| !event.directory) {
                    changed.add(String::from_utf8_lossy(event.path.as_bytes()).into_owned());
                }
                true
            });
            changed
        });
        // An error: nobody tells, as the mount is of real files.
        let _ = begins.recv_timeout(PATIENCE);
        Some(Watch { end, thread })
    }

    /// What was seen.
    pub fn end(self) -> Changed {
        std::thread::sleep(PAUSE);
        drop(self.end);
        // Nothing in it panics.
        self.thread.join().unwrap_or_default()
    }
}

impl Changed {
    fn add(&mut self, path: String) {
        // Git's own bookkeeping says nothing that the rest does not; and what is held stays.
        let held = [grants::PATH, place::PATH].contains(&path.as_str());
        if held || path.starts_with(".git/") || self.paths.contains(&path) {
            return;
        }
        if self.paths.len() < MOST {
            self.paths.insert(path);
        } else {
            self.more += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_once_and_not_without_end() {
        let mut changed = Changed::default();
        for n in 0..MOST + 7 {
            changed.add(format!("src/{n}"));
            changed.add("src/0".into());
            changed.add(".git/index".into());
        }
        assert_eq!((changed.paths.len(), changed.more), (MOST, 7));
    }
}
