//! What the store makes of one core: a capture beside its parts, each alone. The parts are
//! cutting (FastCDC over files that are cut), hashing (BLAKE3, every byte once) and
//! compressing (zstd, level 3, frames of 1 MiB); a capture does these, hashes chunks and
//! whole files, reads directories and files, asks the index, and writes packs. Everything is
//! in memory: the files and the store are on `/dev/shm`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use zagi::store::Store;
use zagi::store::format::content::{Parameters, WHOLE_BELOW};
use zagi::store::format::pack::FRAME;

use crate::median;

/// Files are taken up to this many bytes.
const BYTES: u64 = 200 << 20;
/// Every measurement is a median of as many.
const TIMES: usize = 5;

/// Megabytes a second of each part, of all one after the other, and of a capture, for the
/// files of `tree`; and the last in percent of the one before.
pub fn run(tree: &Path) -> Vec<(String, f64)> {
    let shm = tempfile::tempdir_in("/dev/shm").expect("Linux has one");
    let files = copy(tree, &shm.path().join("tree"));
    let bytes: u64 = files.iter().map(|file| file.len() as u64).sum();
    let everywhere = sched_getaffinity(Pid::this()).expect("it can be asked for");
    let mut one = CpuSet::new();
    let core = (0..CpuSet::count()).find(|core| everywhere.is_set(*core).unwrap_or(false));
    one.set(core.expect("this runs somewhere")).expect("it is in the set");
    sched_setaffinity(Pid::this(), &one).expect("one's own may be narrowed");

    let parts = [
        ("cut", time(|| files.iter().map(|file| cut(file)).sum())),
        ("hash", time(|| files.iter().map(|file| hash(file)).sum())),
        ("compress", time(|| compress(&files))),
    ];
    let capture = time(|| {
        let store = shm.path().join("store");
        let captured =
            Store::open(&store).and_then(|store| store.capture(&shm.path().join("tree")));
        let stored = captured.expect("there is room").stored_bytes;
        std::fs::remove_dir_all(&store).expect("it was just made");
        stored as usize
    });
    sched_setaffinity(Pid::this(), &everywhere).expect("it was so before");

    let speed = |took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    let together: Duration = parts.iter().map(|(_, took)| *took).sum();
    let mut told: Vec<_> =
        parts.iter().map(|(name, took)| ((*name).to_owned(), speed(*took))).collect();
    told.push(("all three".to_owned(), speed(together)));
    told.push(("capture".to_owned(), speed(capture)));
    let percent = 100.0 * together.as_secs_f64() / capture.as_secs_f64();
    told.push(("capture, % of all three".to_owned(), percent));
    told
}

fn time(work: impl Fn() -> usize) -> Duration {
    let took = (0..TIMES).map(|_| {
        let began = Instant::now();
        std::hint::black_box(work());
        began.elapsed()
    });
    median(took.collect()).expect("it was measured")
}

/// Copies files until there are [`BYTES`]; gives their contents.
fn copy(tree: &Path, to: &Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let mut bytes = 0;
    for entry in walkdir::WalkDir::new(tree).sort_by_file_name() {
        let entry = entry.expect("it can be read");
        if !entry.file_type().is_file() || bytes >= BYTES {
            continue;
        }
        let content = std::fs::read(entry.path()).expect("it can be read");
        bytes += content.len() as u64;
        let path: PathBuf = to.join(entry.path().strip_prefix(tree).expect("it is below"));
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("there is room");
        std::fs::write(&path, &content).expect("there is room");
        files.push(content);
    }
    files
}

fn cut(file: &[u8]) -> usize {
    let (mut rest, mut chunks) = (file, 0);
    if (file.len() as u64) < WHOLE_BELOW {
        return 0;
    }
    let parameters = Parameters::for_file(file);
    while !rest.is_empty() {
        rest = &rest[parameters.cut(rest)..];
        chunks += 1;
    }
    chunks
}

fn hash(file: &[u8]) -> usize {
    blake3::hash(file).as_bytes()[0].into()
}

/// Fills frames with files, one after the other, as a capture does.
fn compress(files: &[Vec<u8>]) -> usize {
    let mut zstd = zstd::bulk::Compressor::new(3).expect("there is memory");
    let (mut frame, mut stored) = (Vec::with_capacity(2 * FRAME), 0);
    for file in files {
        for part in file.chunks(FRAME) {
            if frame.len() + part.len() > FRAME {
                stored += zstd.compress(&frame).expect("there is memory").len();
                frame.clear();
            }
            frame.extend_from_slice(part);
        }
    }
    stored + zstd.compress(&frame).expect("there is memory").len()
}
