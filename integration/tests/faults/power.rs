//! The power is pulled: a copy of the delta's disk, taken at any moment, is mounted and looked at.
//!
//! The disk is an ext4 in a file on an XFS, whose `cp --reflink` takes the file as it is at one
//! moment, writers or not. What a copy shows must be a state that the writer once saw, and hold
//! all that had been synced when it was taken.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use zagi_integration::machine::{Machine, Who};
use zagi_integration::suites::seed;

use super::{Disk, Lots, content, mounted, sh, time};

const DISK: &str = "mkdir -p under && truncate -s 2G under.img &&
    mkfs.xfs -q -f -m reflink=1 under.img && mount -o loop under.img under &&
    truncate -s 400M under/disk && mkfs.ext4 -q -F under/disk && mount -o loop under/disk $HOME_DIR";

/// One change of names. Every file is of its number's content, and written and synced, or not,
/// right after it was made.
#[derive(Debug, Clone)]
enum Step {
    Create {
        number: u64,
        synced: bool,
    },
    Rename {
        from: u64,
        to: u64,
    },
    /// Whatever stood at `to` is replaced.
    Replace {
        from: u64,
        to: u64,
    },
    Remove {
        name: u64,
    },
    SyncDirectory,
}

/// By name, the number of the file that stands there, and whether its content was synced.
type Names = BTreeMap<u64, (u64, bool)>;

/// What a writer will do, and the names after each step.
fn history(lots: &mut Lots, steps: usize) -> (Vec<Step>, Vec<Names>) {
    let (mut history, mut states) = (Vec::new(), vec![Names::new()]);
    for number in 0..steps as u64 {
        let mut names = states.last().expect("there is a first").clone();
        let old: Vec<u64> = names.keys().copied().collect();
        let some = |lots: &mut Lots| old[lots.draw(old.len() as u64) as usize];
        let step = match lots.draw(10) {
            0..5 => Step::Create { number, synced: lots.draw(2) == 0 },
            _ if old.len() < 3 => Step::Create { number, synced: true },
            5 => Step::Rename { from: some(lots), to: number },
            6 => {
                let (from, to) = (some(lots), some(lots));
                if from == to { Step::SyncDirectory } else { Step::Replace { from, to } }
            }
            7 | 8 => Step::Remove { name: some(lots) },
            _ => Step::SyncDirectory,
        };
        match &step {
            Step::Create { number, synced } => drop(names.insert(*number, (*number, *synced))),
            Step::Rename { from, to } | Step::Replace { from, to } => {
                let file = names.remove(from).expect("it was chosen among them");
                names.insert(*to, file);
            }
            Step::Remove { name } => drop(names.remove(name)),
            Step::SyncDirectory => {}
        }
        history.push(step);
        states.push(names);
    }
    (history, states)
}

/// How far the writer is.
#[derive(Default)]
struct Progress {
    /// Steps that were begun.
    begun: AtomicUsize,
    /// Steps that were synced.
    synced: AtomicUsize,
    /// Whether it may end.
    enough: AtomicBool,
}

fn play(dir: &Path, history: &[Step], progress: &Progress) {
    let path = |name: u64| dir.join(format!("f{name}"));
    for (done, step) in history.iter().enumerate() {
        if progress.enough.load(Ordering::SeqCst) {
            break;
        }
        progress.begun.store(done + 1, Ordering::SeqCst);
        match step {
            Step::Create { number, synced } => {
                let mut file = File::create_new(path(*number)).unwrap();
                file.write_all(&content(*number)).unwrap();
                if !synced {
                    continue;
                }
                file.sync_all().unwrap();
            }
            Step::Rename { from, to } | Step::Replace { from, to } => {
                fs::rename(path(*from), path(*to)).unwrap();
                continue;
            }
            Step::Remove { name } => {
                fs::remove_file(path(*name)).unwrap();
                continue;
            }
            Step::SyncDirectory => File::open(dir).unwrap().sync_all().unwrap(),
        }
        // One log has all names: a sync of anything is one of every name before.
        progress.synced.store(done + 1, Ordering::SeqCst);
    }
}

/// A copy, with the steps synced before it was begun and those begun before it was done.
struct Copied {
    synced: usize,
    begun: usize,
}

fn look(dir: &Path, copied: &Copied, states: &[Names]) {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_prefix('f').and_then(|number| number.parse::<u64>().ok()) {
            found.insert(name, fs::read(dir.join(format!("f{name}"))).unwrap());
        }
    }
    let names: Vec<u64> = found.keys().copied().collect();
    // A name may stand for one file before and for another after it was replaced: every state
    // with these names is looked at.
    let mut nearly = Vec::new();
    let (first, last) = (copied.synced, copied.begun);
    for (at, state) in states.iter().enumerate().take(last + 1).skip(first) {
        if !state.keys().eq(names.iter()) {
            continue;
        }
        let wrong: Vec<u64> = state
            .iter()
            .filter(|(name, (number, synced))| {
                let whole = content(*number);
                // What nobody synced has perhaps not, or not all, reached the disk.
                let right = found[*name] == whole || (!synced && is_torn(&found[*name], &whole));
                !right
            })
            .map(|(name, _)| *name)
            .collect();
        if wrong.is_empty() {
            return;
        }
        nearly.push((at, wrong));
    }
    panic!(
        "never was so: {names:?}\nsteps {} to {}; states with these names, and what differs: {nearly:?}",
        copied.synced, copied.begun
    );
}

/// A part of what was written: shorter, or with holes.
fn is_torn(found: &[u8], whole: &[u8]) -> bool {
    found.len() <= whole.len() && found.iter().zip(whole).all(|(a, b)| a == b || *a == 0)
}

#[test]
fn a_copy_of_the_disk_shows_a_state_that_was_and_all_that_was_synced() {
    let machine = Machine::new(Who::Me);
    let seed = seed();
    println!("ZAGI_TEST_SEED={seed}");
    let mut lots = Lots(seed);
    let (history, states) = history(&mut lots, 20_000);
    let disk = Disk::new(&machine, DISK);
    let dir = mounted(&machine);
    File::open(&dir).unwrap().sync_all().unwrap();
    let progress = Progress::default();
    let copies = time(8).as_secs();
    let copied: Vec<Copied> = thread::scope(|scope| {
        scope.spawn(|| play(&dir, &history, &progress));
        let copied = (0..copies).map(|n| {
            thread::sleep(Duration::from_millis(20 + lots.draw(500)));
            let synced = progress.synced.load(Ordering::SeqCst);
            sh(&machine, &format!("cp --reflink=always under/disk under/copy-{n}"));
            Copied { synced, begun: progress.begun.load(Ordering::SeqCst) }
        });
        let copied = copied.collect();
        progress.enough.store(true, Ordering::SeqCst);
        copied
    });
    drop(disk);
    for (n, copied) in copied.iter().enumerate() {
        println!("copy {n}: {} steps synced, {} begun", copied.synced, copied.begun);
        let _disk = Disk::new(&machine, &format!("mount -o loop under/copy-{n} $HOME_DIR"));
        machine.zagi(&["mount", "w"]).ok();
        look(&dir, copied, &states);
    }
    let last = copied.last().map_or(0, |copied| copied.synced);
    assert!(last > 20, "{last} steps only");
    sh(&machine, "umount -l under");
}
