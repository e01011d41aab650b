//! Waiting for those who are at the store, and saying who they are.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::hold::Exclusive;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// After this long it is said for whom one waits.
const SILENT: Duration = Duration::from_millis(500);

impl Store {
    /// Waits until no other process collects or repairs.
    pub(in crate::store) fn wait_to_be_alone(
        &self,
        patience: Duration,
    ) -> Result<File, StoreError> {
        let path = self.inner.root.join("gc.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(StoreError::write(&path))?;
        self.wait(&path, patience, || match lock.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(StoreError::write(&path)(e)),
        })?;
        Ok(lock)
    }

    /// Waits until nobody has a hold, and keeps everybody from getting one.
    pub(in crate::store) fn wait_for_all(
        &self,
        patience: Duration,
    ) -> Result<Exclusive, StoreError> {
        let root = &self.inner.root;
        self.wait(&root.join("collect.lock"), patience, || Exclusive::try_take(root))
    }

    fn wait<R>(
        &self,
        lock: &Path,
        patience: Duration,
        mut take: impl FnMut() -> Result<Option<R>, StoreError>,
    ) -> Result<R, StoreError> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            if let Some(taken) = take()? {
                return Ok(taken);
            }
            if begun.elapsed() >= patience {
                let path = self.inner.root.clone();
                return Err(StoreError::InUse { path, by: holders(lock) });
            }
            if !told && begun.elapsed() >= SILENT {
                told = true;
                let by = holders(lock);
                self.events.emit(Event::Warning(format!("waiting for {by}, at the store now")));
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Those who have a lock on the file: `git (12), zagi (34)`. See proc_locks(5).
fn holders(path: &Path) -> String {
    let inode = fs::metadata(path).map_or(0, |found| found.ino());
    let suffix = format!(":{inode}");
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut found: Vec<String> = locks
        .lines()
        .filter(|line| !line.contains("->"))
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(4);
            let (pid, file) = (words.next()?, words.next()?);
            file.ends_with(&suffix).then(|| pid.to_owned())
        })
        .filter(|pid| pid.parse::<u32>().is_ok_and(|pid| pid != 0))
        .map(|pid| {
            let comm = fs::read_to_string(PathBuf::from("/proc").join(&pid).join("comm"));
            let name = comm.map_or_else(|_| "a process".to_owned(), |name| name.trim().to_owned());
            format!("{name} ({pid})")
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    match found.is_empty() {
        // Those of other process namespaces are not shown.
        true => "a process that cannot be seen from here".into(),
        false => found.join(", "),
    }
}
