//! The power is cut, and the disk fails, at each operation of what the store does.
//!
//! An operation is run on a simulated disk whose power goes at its first step, then at its
//! second, and so on until it gets through. Each time the disk is looked at in every shape
//! that it may be found in afterwards ([`cuts`]), with the caches in one of theirs. What
//! anybody was told must be there, all that is there must be sound, and the operation must
//! work when it is run again.

mod operations;
mod told;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use zagi::store::{Damage, Input, Output, Storage, Store, StoreError};

use operations::{input, with_first};
use told::Told;

use crate::support::disk::{
    Bytes, Cut, Fault, Names, OUTSIDES, Outside, SimulatedDisk, copy, cuts, memory,
};

/// An operation, or a few.
type Run<'r> = &'r dyn Fn(&Store, &mut Told) -> Result<(), StoreError>;
/// What stands between the store and its disk.
type Wrap<'w> = &'w dyn Fn(SimulatedDisk) -> Arc<dyn Storage>;

/// A disk on which things were done before, and what was said then.
struct Before {
    disk: TempDir,
    told: Told,
    /// It is the operation that makes it sound.
    is_damaged: bool,
    /// The power is cut at every so manieth operation.
    step: usize,
}

impl Before {
    /// No store yet.
    fn nothing() -> Before {
        Before { disk: memory(), told: Told::default(), is_damaged: false, step: 1 }
    }

    fn with(run: Run<'_>) -> Before {
        let mut before = Before::nothing();
        let store = Store::open(&before.disk.path().join("store")).unwrap();
        run(&store, &mut before.told).unwrap();
        before
    }

    fn copied(&self) -> TempDir {
        let to = memory();
        copy(self.disk.path(), to.path());
        to
    }
}

fn open_and(
    disk: &SimulatedDisk,
    wrap: Wrap<'_>,
    told: &mut Told,
    run: Run<'_>,
) -> Result<(), StoreError> {
    let store = Store::open_on(&disk.store(), wrap(disk.clone()))?;
    run(&store, told)
}

/// Whether what is found after a cut is as was told, and whether `run` works on it.
fn check_found(
    disk: &SimulatedDisk,
    cut: Cut,
    outside: Outside,
    (told, is_damaged): (&Told, bool),
    run: Run<'_>,
) -> Result<(), String> {
    let to = memory();
    disk.found(to.path(), cut, outside);
    let root = to.path().join("store");
    let check = || {
        let store = Store::open(&root).map_err(|e| format!("open: {e}"))?;
        told.check(&store)?;
        if !is_damaged {
            is_sound(&store, outside)?;
        }
        let mut told = told.clone();
        run(&store, &mut told).map_err(|e| format!("again: {e}"))?;
        told.check(&store).map_err(|e| format!("after it was run again: {e}"))?;
        match is_damaged {
            true => is_sound(&store, outside),
            false => Ok(()),
        }
    };
    check().map_err(|e| format!("{cut:?}, caches {outside:?}: {e}"))
}

/// Whether a look at every byte finds nothing.
fn is_sound(store: &Store, outside: Outside) -> Result<(), String> {
    let found = store.verify().map_err(|e| format!("verify: {e}"))?;
    let is_spoiled = matches!(outside, Outside::Halved | Outside::Garbage);
    for finding in &found.findings.first {
        let is_farm = matches!(finding.damage, Damage::FarmFile { .. } | Damage::FarmTree { .. });
        // Files of the farm that nobody has used yet.
        if !(is_spoiled && is_farm) {
            return Err(format!("verify: {finding:?}"));
        }
    }
    match found.paths.first.first() {
        Some(path) => Err(format!("verify: {path:?}")),
        None => Ok(()),
    }
}

/// Cuts the power at each operation. Gives how many there are, and what was lost; or, as
/// soon as something was, that.
fn losses(before: &Before, wrap: Wrap<'_>, run: Run<'_>) -> (u64, Vec<String>) {
    let mut lost = Vec::new();
    for k in (0..).step_by(before.step) {
        if !lost.is_empty() {
            return (k, lost);
        }
        let dir = before.copied();
        let disk = SimulatedDisk::new(dir.path()).fail_at(k, Fault::Power);
        let mut told = before.told.clone();
        let done = open_and(&disk, wrap, &mut told, run);
        assert!(done.is_err() || !disk.is_off(), "the power went at {k} and nobody noticed");
        let check = |what: &str, cut, outside, told: &Told| {
            let found = check_found(&disk, cut, outside, (told, before.is_damaged), run);
            found.err().map(|e| format!("operation {k}{what}, {e}"))
        };
        for (n, cut) in cuts(k).into_iter().enumerate() {
            lost.extend(check("", cut, OUTSIDES[(n + k as usize) % OUTSIDES.len()], &told));
        }
        if !disk.is_off() {
            done.unwrap();
            return (k, lost);
        }
        let again = twice(&disk, k, (&told, before.is_damaged), run);
        lost.extend(again.err().map(|e| format!("operation {k}, twice, {e}")));
        // Only the process died. Another one goes on with what it sees, and then the power
        // is cut.
        disk.mend();
        match open_and(&disk, wrap, &mut told, run) {
            Ok(()) => {
                let everything = Cut::All(Names::Lost, Bytes::Lost);
                for (cut, outside) in [
                    (everything, Outside::Same),
                    (everything, Outside::Missing),
                    (Cut::Mixed(k), Outside::Older),
                ] {
                    lost.extend(check(", another process", cut, outside, &told));
                }
            }
            Err(e) => lost.push(format!("operation {k}, another process: {e}")),
        }
    }
    unreachable!("there are not so many operations")
}

/// The power goes a second time, while the operation is done again.
fn twice(
    disk: &SimulatedDisk,
    k: u64,
    (told, is_damaged): (&Told, bool),
    run: Run<'_>,
) -> Result<(), String> {
    let to = memory();
    disk.found(to.path(), Cut::Mixed(k), Outside::Same);
    let again = SimulatedDisk::new(to.path()).fail_at(k * 7 % 23, Fault::Power);
    let mut told = told.clone();
    // It may get through: then what it told counts, too.
    let _ = open_and(&again, &bare, &mut told, run);
    check_found(&again, Cut::Mixed(k + 1), Outside::Same, (&told, is_damaged), run)
}

fn bare(disk: SimulatedDisk) -> Arc<dyn Storage> {
    Arc::new(disk)
}

/// Nothing is lost wherever the power goes. There must be so many places at least.
fn survives(before: &Before, least: u64, run: Run<'_>) {
    let (operations, lost) = losses(before, &bare, run);
    assert!(lost.is_empty(), "{}", lost.join("\n"));
    assert!(operations >= least, "{operations} operations only");
}

/// Wherever the disk fails, the process says so, the old state is whole, and the operation
/// works when it is run again, by the same process and, after a power cut, by another.
fn recovers(before: &Before, fault: Fault, run: Run<'_>) {
    let mut failed = 0;
    let passed = |disk: &SimulatedDisk| match fault {
        Fault::Unreadable => disk.reads(),
        _ => disk.operations(),
    };
    // There are many reads, and most are alike.
    for k in (0..).step_by(if fault == Fault::Unreadable { 9 } else { 1 }) {
        let dir = before.copied();
        let disk = SimulatedDisk::new(dir.path()).fail_at(k, fault);
        let mut told = before.told.clone();
        let at = |e: String| -> String { format!("{fault:?} at operation {k}: {e}") };
        let opened = Store::open_on(&disk.store(), bare(disk.clone()));
        let store = match opened {
            Ok(store) => store,
            Err(_) => {
                disk.mend();
                Store::open_on(&disk.store(), bare(disk.clone()))
                    .map_err(|e| at(e.to_string()))
                    .unwrap()
            }
        };
        match run(&store, &mut told) {
            Ok(()) if passed(&disk) <= k => {
                // What cannot be read once may be read again, or looked for elsewhere.
                let may_succeed = matches!(fault, Fault::Short | Fault::Unreadable);
                assert!(failed > 0 || may_succeed, "{fault:?} made nothing fail");
                return;
            }
            Ok(()) => {}
            Err(e) => {
                failed += 1;
                let is_told = fault != Fault::Full || matches!(e, StoreError::NoSpace { .. });
                assert!(is_told, "{}", at(e.to_string()));
                if !before.is_damaged {
                    told.check(&store).map_err(at).unwrap();
                }
                disk.mend();
                run(&store, &mut told).map_err(|e| at(format!("again: {e}"))).unwrap();
            }
        }
        disk.mend();
        told.check(&store).map_err(at).unwrap();
        for cut in [Cut::All(Names::Lost, Bytes::Lost), Cut::Mixed(k)] {
            check_found(&disk, cut, Outside::Same, (&told, before.is_damaged), run)
                .map_err(at)
                .unwrap();
        }
    }
}

/// Every fault in turn. A repair takes what cannot be read for lost.
fn recovers_from_all(before: &Before, run: Run<'_>) {
    let broken = Fault::Fails(io::ErrorKind::Other);
    for fault in [Fault::Full, broken, Fault::Short, Fault::Unreadable] {
        if !(before.is_damaged && fault == Fault::Unreadable) {
            recovers(before, fault, run);
        }
    }
}

/// A storage that does not do what it is asked for.
struct Careless {
    disk: SimulatedDisk,
    how: Carelessness,
    late: Mutex<Vec<PathBuf>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carelessness {
    /// Files are not synced.
    Files,
    /// Directories are not.
    Directories,
    /// A pack's directory is, but only after a ref.
    Late,
}

struct Unsynced(Box<dyn Output>);

impl Write for Unsynced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Output for Unsynced {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Careless {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let output = self.disk.create(path)?;
        Ok(if self.how == Carelessness::Files { Box::new(Unsynced(output)) } else { output })
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Input>> {
        self.disk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut late = self.late.lock().unwrap();
        match self.how {
            Carelessness::Directories => Ok(()),
            Carelessness::Late if path.ends_with("packs") => {
                late.push(path.to_owned());
                Ok(())
            }
            Carelessness::Late if path.ends_with("refs") => {
                self.disk.sync_directory(path)?;
                late.drain(..).try_for_each(|path| self.disk.sync_directory(&path))
            }
            _ => self.disk.sync_directory(path),
        }
    }
}

#[test]
fn what_does_not_sync_is_found_out() {
    let input = input(2);
    let run: Run<'_> = &|store, told| {
        let tree = told.capture(store, input.path())?;
        told.set_ref(store, "second", tree)
    };
    let before = with_first();
    for (how, found) in [
        (Carelessness::Files, "is damaged"),
        (Carelessness::Directories, "means None"),
        (Carelessness::Late, "is not in the store"),
    ] {
        let careless =
            |disk| -> Arc<dyn Storage> { Arc::new(Careless { disk, how, late: Mutex::default() }) };
        let (_, lost) = losses(&before, &careless, run);
        assert!(lost.iter().any(|loss| loss.contains(found)), "{how:?}: {lost:?}");
    }
}
