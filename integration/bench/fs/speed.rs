//! Rounds and medians.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::asked::Asked;
use super::place::{Interrupt, Place};
use super::rows::{Phase, ROWS, Row, Step};
use super::side::{self, Face, Side};
use super::{corpus, table};

/// Seconds that one phase may take.
const LIMIT: u64 = 900;
/// A side that took so many milliseconds for a row, and [`SLOWER`] times as long as natively,
/// is measured once.
const LONG: f64 = 20e3;
const SLOWER: f64 = 5.0;
/// Small files are at most so large.
const SMALL: u64 = 1 << 16;

/// Milliseconds of one phase on one side, or why there are none.
#[derive(Debug, Default, Clone)]
pub struct Cell {
    /// One a round.
    pub took: Vec<f64>,
    /// Why it failed, if it did.
    pub failed: Option<String>,
}

impl Cell {
    /// The median, where there is one.
    pub fn median(&self) -> Option<f64> {
        let mut took = self.took.clone();
        took.sort_by(f64::total_cmp);
        took.get(took.len() / 2).copied().filter(|_| self.failed.is_none())
    }
}

/// What was measured of one row: for each phase, for each side.
pub type Cells = Vec<Vec<Cell>>;

/// Measures and prints all that was asked for. False where zagi or the native directory failed.
pub fn run(asked: &Asked, interrupt: &Interrupt) -> bool {
    let repository = corpus::repository(interrupt);
    let sides = side::all(asked);
    let mut well = true;
    for &who in &asked.users {
        let place = Place::new(who, interrupt);
        let bench = Bench::new(asked, &place, &repository);
        well &= bench.rows(ROWS, &sides, &bench.about());
    }
    well
}

/// Whether neither zagi nor the native directory failed.
fn judged(sides: &[Side], cells: &Cells) -> bool {
    let ours = |side: &Side| side.is_native() || side.is_zagi();
    cells.iter().all(|phase| {
        phase.iter().zip(sides).all(|(cell, side)| !ours(side) || cell.failed.is_none())
    })
}

/// The trees of one user, and what the scripts are told.
pub struct Bench<'a> {
    /// What was asked for.
    pub asked: &'a Asked,
    /// Whose trees.
    pub place: &'a Place,
    /// See `rows`.
    pub variables: BTreeMap<&'static str, String>,
}

impl<'a> Bench<'a> {
    fn new(asked: &'a Asked, place: &'a Place, repository: &Path) -> Bench<'a> {
        let origin = place.directory("origin");
        copy(&repository.join(".git"), &origin.join(".git"));
        own(place, &origin);
        let work = place.machine.work();
        trees(place);
        warm_npm(asked, place);
        let small = if asked.quick { 2_000 } else { 20_000 };
        let list = list(&work.join("base"), small);
        std::fs::write(work.join("files"), &list).expect("the place is ours");
        if asked.wants("cargo") {
            toolchain(&work.join("tools"));
        }
        let git = |name: &str| place.machine.git(&origin, &["rev-parse", name]).ok().out;
        let path = |name: &str| place.path(name).to_string_lossy().into_owned();
        let variables = BTreeMap::from([
            ("FILES", small.to_string()),
            ("SIZE", if asked.quick { 64 } else { 1024 }.to_string()),
            ("MAIN", git("main").trim().to_owned()),
            ("OTHER", git("other").trim().to_owned()),
            ("BASE", path("base")),
            ("TRASH", path("trash")),
            ("TOOLS", path("tools")),
            ("WORK", path("")),
            ("LIST", path("files")),
        ]);
        Bench { asked, place, variables }
    }

    /// What the trees are.
    fn about(&self) -> String {
        let count =
            |script: &str| self.place.sh(&self.place.path("base"), script).trim().to_owned();
        format!(
            "{} files committed, {} in node_modules; {} small files, {} MiB for fio",
            count("git ls-files | wc -l"),
            count("find node_modules -type f | wc -l"),
            self.variables["FILES"],
            self.variables["SIZE"]
        )
    }

    /// Measures and prints what was asked for of `rows`, on those of `sides` that this user can.
    pub fn rows(&self, rows: &[Row], sides: &[Side], about: &str) -> bool {
        let root = self.place.is_root();
        let sides: Vec<Side> =
            sides.iter().filter(|side| !side.root_only || root).cloned().collect();
        let faces = sides.iter().enumerate().map(|(i, side)| Face::new(self.place, side, i));
        let mut faces: Vec<Face<'_>> = faces.collect();
        let mut well = true;
        table::head(self.place, &sides, about);
        let rows = rows.iter().filter(|row| self.asked.wants(row.key));
        for row in rows.filter(|row| !(row.ordinary_only && root)) {
            let cells = self.row(row, &mut faces);
            table::row(row, &sides, &cells);
            well &= judged(&sides, &cells);
        }
        println!();
        well
    }

    fn row(&self, row: &Row, faces: &mut [Face<'_>]) -> Cells {
        let mut cells = vec![vec![Cell::default(); faces.len()]; row.phases.len()];
        let rounds = self.asked.rounds.min(row.rounds);
        for round in 0..rounds {
            for turn in 0..faces.len() {
                let i = (turn + round) % faces.len();
                if round > 0 && (hopeless(&cells, i) || cells.iter().any(|c| c[i].failed.is_some()))
                {
                    continue;
                }
                let who = self.place.user();
                let name = &faces[i].side.name;
                eprintln!("{who}: {}, round {} of {rounds}: {name}", row.key, round + 1);
                if let Err((phase, why)) = self.once(row, &mut faces[i], round, &mut cells, i) {
                    eprintln!("  failed: {why}");
                    cells[phase..].iter_mut().for_each(|c| c[i].failed = Some(why.clone()));
                }
            }
        }
        cells
    }

    /// One side, one round. The error says from which phase on there is nothing.
    fn once(
        &self,
        row: &Row,
        face: &mut Face<'_>,
        round: usize,
        cells: &mut Cells,
        side: usize,
    ) -> Result<(), (usize, String)> {
        let mut variables: Vec<(&str, String)> =
            self.variables.iter().map(|(name, value)| (*name, value.clone())).collect();
        variables.push(("N", format!("{}-{round}", row.key)));
        face.fresh().map_err(|why| (0, why))?;
        let phases = || {
            face.prepare(row.before, &variables).map_err(|why| (0, why))?;
            for (i, phase) in row.phases.iter().enumerate() {
                face.prepare(phase.before, &variables).map_err(|why| (i, why))?;
                let step = self.arguments(phase);
                let took = face.time(&step, LIMIT, &variables).map_err(|why| (i, why))?;
                cells[i][side].took.push(took);
            }
            Ok(())
        };
        let done = { phases }();
        let after = face.prepare(row.after, &variables).map_err(|why| (row.phases.len(), why));
        let undone = match face.side.is_native() {
            true => face.prepare(row.undo, &variables).map_err(|why| (row.phases.len(), why)),
            false => Ok(()),
        };
        face.away();
        done.and(after).and(undone)
    }

    fn arguments(&self, phase: &Phase) -> Vec<String> {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match phase.step {
            Step::Sh(script) => own(&["sh", script]),
            Step::Read => own(&["read", &self.variables["LIST"]]),
            Step::Create => own(&["create", &self.variables["FILES"]]),
            Step::Delete => own(&["delete"]),
            Step::Fio(job) => {
                let mut words: Vec<String> = own(&["fio"]);
                words.push(format!("--size={}M", self.variables["SIZE"]));
                words.extend(job.iter().map(|word| (*word).to_owned()));
                words
            }
        }
    }
}

/// What the sides stand on, of the repository `origin`.
pub fn trees(place: &Place) {
    eprintln!("{}: trees are made", place.user());
    // The first mount installs what the second finds.
    place.zagi(&["mount", "-q", "origin", "first"]);
    place.zagi(&["unmount", "-q", "first"]);
    place.zagi(&["mount", "-q", "--materialise", "origin", "made"]);
    place.directory("trash");
    let work = place.machine.work();
    place.sh(&work, "cp -a made base && git -C base status >/dev/null");
    place.sh(&work, "cp -a base native && git -C native status >/dev/null");
}

/// Whether a side is so slow in a row that once is enough.
fn hopeless(cells: &Cells, side: usize) -> bool {
    let sum = |side: usize| cells.iter().filter_map(|phase| phase[side].median()).sum::<f64>();
    sum(side) > LONG && sum(side) > SLOWER * sum(0)
}

/// Paths of small files, of all parts of the tree alike.
fn list(tree: &Path, most: usize) -> String {
    let walk = walkdir::WalkDir::new(tree).sort_by_file_name().into_iter();
    let walk =
        walk.filter_entry(|entry| !matches!(entry.file_name().to_str(), Some(".git" | ".zagi")));
    let small: Vec<String> = walk
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .filter(|entry| entry.metadata().is_ok_and(|found| found.len() <= SMALL))
        .filter_map(|entry| Some(entry.path().strip_prefix(tree).ok()?.to_str()?.to_owned()))
        .collect();
    let taken = most.min(small.len());
    (0..taken).map(|i| format!("{}\n", small[i * small.len() / taken])).collect()
}

/// What `npm ci --offline` needs, in the user's own cache.
fn warm_npm(asked: &Asked, place: &Place) {
    if asked.wants("npm") {
        let dir = place.directory("npm");
        let script = "cp ../base/package.json ../base/package-lock.json . && \
                      npm ci --ignore-scripts --no-audit --no-fund --silent";
        place.sh(&dir, script);
    }
}

/// The toolchain of the one who measures, where the user may run it.
fn toolchain(to: &Path) {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let output = output.expect("there is a Rust toolchain");
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let linked = Command::new("cp").args(["-al", &sysroot]).arg(to).status();
    if !linked.is_ok_and(|status| status.success()) {
        copy(Path::new(&sysroot), to);
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "{}", from.display());
}

fn own(place: &Place, dir: &Path) {
    if !place.is_root() {
        let owner = format!("{0}:{0}", zagi_integration::machine::ORDINARY);
        let status = Command::new("chown").args(["-R", &owner]).arg(dir).status();
        assert!(status.is_ok_and(|status| status.success()), "{}", dir.display());
    }
}
