//! What an agent did that somebody may want to know.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::egress::Seen;

const FILE: &str = "log.jsonl";

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Seconds since the epoch.
    pub time: i64,
    /// What was.
    #[serde(flatten)]
    pub what: What,
}

/// What was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// It was started.
    Began {
        /// As this.
        argv: Vec<String>,
    },
    /// It, or something that it started, executed this.
    Ran {
        /// The file, as it was named. Empty: it could not be found out.
        program: String,
        /// Its words, as far as they are kept; the first is what it was told that it is called.
        argv: Vec<String>,
        /// There was more of them.
        cut: bool,
    },
    /// What it executed so often that the words are not kept.
    RanMore {
        /// The file; empty: any other.
        program: String,
        /// So many times besides.
        times: u64,
    },
    /// It reached a host.
    Reached {
        /// With its port.
        host: String,
    },
    /// It wanted a host that it is not granted.
    NotListed {
        /// With its port.
        host: String,
    },
    /// What it wanted of the network is not allowed at all, or did not work.
    Refused {
        /// With its port, as far as that could be read.
        host: String,
        /// Why.
        why: String,
    },
    /// It fetched.
    Fetched {
        /// From this remote.
        remote: String,
    },
    /// Something of it was pushed.
    Pushed {
        /// To this remote.
        remote: String,
        /// To this reference.
        reference: String,
        /// This commit; without one the reference was deleted.
        commit: Option<String>,
    },
    /// It wanted to push, which waits for its user.
    PushAsked {
        /// To this remote.
        remote: String,
        /// To this reference.
        reference: String,
        /// By which it is approved.
        number: u64,
    },
    /// What it wanted to push is not pushed.
    PushRefused {
        /// To this remote.
        remote: String,
        /// To this reference.
        reference: String,
        /// Why.
        why: String,
    },
    /// While it was at work these were changed, by it or by others.
    Changed {
        /// Relative to the workspace.
        paths: Vec<String>,
        /// How many times others were.
        more: u64,
    },
    /// It ended.
    Ended {
        /// How.
        exit: String,
    },
}

impl From<Seen> for What {
    fn from(seen: Seen) -> What {
        match seen {
            Seen::Reached { target } => What::Reached { host: target },
            Seen::NotListed { target } => What::NotListed { host: target },
            Seen::Refused { target, why, .. } => What::Refused { host: target, why },
        }
    }
}

/// A log that is being written.
#[derive(Debug)]
pub(super) struct Log {
    file: Mutex<File>,
    unlisted: Mutex<BTreeSet<String>>,
    /// When it was opened, by both clocks.
    opened: (i64, Instant),
}

impl Log {
    /// Opens the one in `dir` at `now`, seconds since the epoch.
    pub fn open(dir: &Path, now: i64) -> io::Result<Log> {
        let mut options = OpenOptions::new();
        // A command line is nobody else's business.
        let file = options.create(true).append(true).mode(0o600).open(dir.join(FILE))?;
        Ok(Log {
            file: Mutex::new(file),
            unlisted: Mutex::default(),
            opened: (now, Instant::now()),
        })
    }

    pub fn write(&self, what: What) -> io::Result<()> {
        if let What::NotListed { host } = &what {
            self.unlisted.lock().expect("nothing panics in it").insert(host.clone());
        }
        let entry = Entry { time: self.now(), what };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.file.lock().expect("nothing panics in it").write_all(&line)
    }

    /// Seconds since the epoch.
    pub fn now(&self) -> i64 {
        let (opened, since) = self.opened;
        opened + i64::try_from(since.elapsed().as_secs()).unwrap_or_default()
    }

    /// The hosts that were wanted and not granted.
    pub fn unlisted(&self) -> Vec<String> {
        self.unlisted.lock().expect("nothing panics in it").iter().cloned().collect()
    }
}

/// The log in `dir`, from the beginning; none is empty.
pub fn entries(dir: &Path) -> io::Result<Vec<Entry>> {
    let text = match fs::read_to_string(dir.join(FILE)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    // The last line may be half written.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
