//! Git asks what changed and looks at nothing else. After every one of hundreds of random
//! steps its answers must be those of a git that looks at everything: the same repository, read
//! with an index made anew and without our hook and git's untracked cache.

use std::path::{Path, PathBuf};

use zagi_integration::machine::{Machine, Said, Who};

/// What git is asked, in an order that differs from step to step: the first question finds the
/// index as the step left it.
const QUESTIONS: [&str; 5] = [
    "status --porcelain=v2 -uall",
    "status --porcelain=v2",
    "status --porcelain=v2 --ignored",
    "diff",
    "diff --cached",
];

/// An index with the same entries and nothing else, and the same question.
const WALK: &str = r#"
    ask() {
        rm -f "$INDEX"
        git ls-files -s -z | GIT_INDEX_FILE=$INDEX git update-index -z --index-info
        echo "== $1"; git $1
        echo "== walk"
        GIT_INDEX_FILE=$INDEX git -c core.fsmonitor=false -c core.untrackedCache=false $1
    }
"#;

/// Writes `$2` over the beginning of the file `$1` through a shared mapping: mmap(2), read(2)
/// into it, msync(2).
const MAPPED: &str = r#"
    mapped() {
        test -s "$1" && test ! -L "$1" && perl -e '
            open F, "+<", $ARGV[0] or exit; my $at = syscall(9, 0, 4096, 3, 1, fileno(F), 0);
            pipe R, W; syswrite W, $ARGV[1];
            syscall(0, fileno(R), $at, 1); syscall(26, $at, 4096, 4)' "$1" "$2"
    }
    swap() { perl -e 'syscall(316, -100, $ARGV[0], -100, $ARGV[1], 2)' "$1" "$2"; }
"#;

/// SplitMix64: all of its state is the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn dir(&mut self) -> &'static str {
        self.pick(&["a", "a/b", "a/b/deep", "c", "d", "d/e", "new", "new/er", "tracked.d"])
    }

    fn file(&mut self) -> String {
        let name = self.pick(&["f0", "f1", "f2.o", "f3.log", "sp ace", "\u{e4}"]);
        match self.below(6) {
            0 => name.to_owned(),
            _ => format!("{}/{name}", self.dir()),
        }
    }
}

/// One step, as a line of shell. Much of it fails, which is as good a step as any.
fn step(random: &mut Random) -> String {
    let (file, other) = (random.file(), random.file());
    let (dir, to) = (random.dir(), random.dir());
    let n = random.below(1000);
    match random.below(32) {
        0..=3 => format!("mkdir -p \"$(dirname '{file}')\"; echo {n} > '{file}'"),
        // Of the same length, within one second, with a look in between.
        4 | 5 => format!(
            "test -f '{file}' && {{ printf aaaa > '{file}'; git status > /dev/null; printf \
             bbbb > '{file}'; git add '{file}'; printf cccc > '{file}'; }}"
        ),
        6 | 7 => format!("rm -rf '{file}'"),
        8 => format!("rm -rf '{dir}'"),
        9..=11 => format!("mv -T '{dir}' '{to}'"),
        12 => format!("swap '{dir}' '{to}'"),
        13 => format!("swap '{file}' '{other}'"),
        14 => format!("rm -rf '{dir}'; mkdir -p '{dir}'; echo {n} > '{dir}/again'"),
        15 => format!("chmod {} '{file}'", random.pick(&["+x", "-x"])),
        16 => format!("ln -f '{file}' '{other}'"),
        17 => format!("ln -sfn 'to{n}' '{file}'"),
        18 | 19 => format!("mapped '{file}' {}", n % 10),
        20 => random.pick(&["git add -A", "git add -u", "git add .", "git reset -q"]).to_owned(),
        21 => random.pick(&["git stash -q", "git stash -q -u", "git stash pop -q"]).to_owned(),
        22 => {
            let branch = random.pick(&["main", "side"]);
            format!("git checkout -q {}{branch}", random.pick(&["", "-f "]))
        }
        23 => "git commit -q -a -m more".to_owned(),
        24 | 25 => {
            let rule = random.pick(&["*.o", "*.log", "!f2.o", "f*", "/b", "new/", "er"]);
            format!("mkdir -p '{dir}'; echo '{rule}' > '{dir}/.gitignore'")
        }
        26 => format!("rm -f '{dir}/.gitignore' .gitignore"),
        27 => format!("echo '{}' >> .gitignore", random.pick(&["*.log", "!*.log", "d", "c/"])),
        28 => format!("touch -d '2001-01-01 00:00:0{}' '{file}'", n % 10),
        29 => format!("mkdir -p '{dir}' && git init -q '{dir}'"),
        30 => random.pick(&["git reset -q --hard", "git clean -fdq", "git mv a c"]).to_owned(),
        _ => format!("for i in $(seq 150); do echo {n} > many$i; done; mkdir -p '{dir}/empty'"),
    }
}

/// Somebody who may commit.
fn machine(who: Who) -> Machine {
    let mut machine = Machine::new(who);
    for role in ["AUTHOR", "COMMITTER"] {
        machine.set(&format!("GIT_{role}_NAME"), "T");
        machine.set(&format!("GIT_{role}_EMAIL"), "t@localhost");
    }
    machine
}

fn origin(machine: &Machine) -> PathBuf {
    let dir = machine.work().join("origin");
    let script = r#"
        git init -q -b main origin && cd origin
        mkdir -p a/b/deep c d/e tracked.d
        for d in . a a/b a/b/deep c d d/e tracked.d; do
            for f in f0 f1 f3.log 'sp ace'; do echo "$d $f" > "$d/$f"; done
        done
        echo '*.o' > .gitignore; echo '*.tmp' > a/.gitignore; echo f3.log > d/.gitignore
        git add -A -f; git commit -q -m first
        git checkout -q -b side; git rm -q -r d; echo side > a/f0; mkdir n; echo n > n/n
        git add -A; git commit -q -m side; git checkout -q main
    "#;
    machine.sh(&machine.work(), script).ok();
    dir
}

fn check(machine: &Machine, w: &Path, random: &mut Random, when: &str) {
    let first = random.below(QUESTIONS.len());
    let questions = QUESTIONS.iter().cycle().skip(first).take(QUESTIONS.len());
    let asked: String = questions.map(|question| format!("ask '{question}'\n")).collect();
    let said = machine.sh(w, &format!("{WALK}\n{asked}"));
    assert_eq!(said.code, 0, "{when}: {}", said.err);
    for answer in
        said.out.split("== ").filter(|part| !part.is_empty()).collect::<Vec<_>>().chunks(2)
    {
        let [ours, walk] = answer else { panic!("{when}: half an answer") };
        let (question, ours) = ours.split_once('\n').expect("a line for the question");
        let walk = walk.strip_prefix("walk\n").expect("the walk follows");
        assert_eq!(ours, walk, "{when}\ngit {question}: ours is on the left");
    }
}

fn agrees(who: Who, seed: u64, steps: usize) {
    let seed = std::env::var("ZAGI_TEST_SEED").map_or(seed, |s| s.parse().expect("a number"));
    let mut machine = machine(who);
    machine.set("INDEX", machine.work().join("index").to_str().unwrap());
    let origin = origin(&machine);
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let w = machine.work().join("w");
    let mut random = Random(seed);
    let mut done = Vec::new();
    for number in 0..steps {
        if random.below(40) == 0 {
            machine.zagi(&["unmount", "w"]).ok();
            machine.zagi(&["mount", "w"]).ok();
            done.push("(mounted again)".to_owned());
        }
        let step = step(&mut random);
        machine.sh(&w, &format!("{MAPPED}\n{step} || true"));
        done.push(step);
        let before = done.iter().rev().take(8).rev();
        let before = before.map(String::as_str).collect::<Vec<_>>().join("\n  ");
        check(&machine, &w, &mut random, &format!("seed {seed}, step {number}:\n  {before}"));
    }
    machine.git(&w, &["fsck"]).ok();
}

#[test]
fn as_root() {
    agrees(Who::Me, 1, 300);
}

#[test]
fn as_an_ordinary_user() {
    agrees(Who::Ordinary, 2, 300);
}

/// What a program wrote through a mapping that it still holds, and never synced.
#[test]
fn what_is_still_mapped_is_seen() {
    let machine = Machine::new(Who::Me);
    let origin = super::git::repository(&machine, "mapped");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let w = machine.work().join("w");
    let script = r#"
        git status --porcelain
        perl -e '
            open F, "+<", "alpha.txt"; my $at = syscall(9, 0, 4096, 3, 1, fileno(F), 0);
            pipe R, W; syswrite W, "X"; syscall(0, fileno(R), $at, 1);
            system "git", "status", "--porcelain"'
    "#;
    assert_eq!(machine.sh(&w, script).ok().out, " M alpha.txt\n");
}

/// No file of the tree is looked at, and no directory opened, by a git that knows nothing yet.
#[test]
fn the_first_status_looks_at_nothing() {
    let mut machine = machine(Who::Me);
    // What was committed this very second, git would look at once more.
    machine.set("GIT_COMMITTER_DATE", "2020-01-01T00:00:00Z");
    let origin = origin(&machine);
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let w = machine.work().join("w");
    let trace = machine.work().join("trace");
    for state in ["fresh", "mounted again"] {
        let mut git = machine.command("git", &w);
        git.args(["status", "--porcelain"]).env("GIT_TRACE2_EVENT", &trace);
        git.env("GIT_TRACE2_EVENT_NESTING", "10");
        assert_eq!(Said::of(&mut git).ok().out, "", "{state}");
        let said = std::fs::read_to_string(&trace).unwrap();
        let number = |key: &str| -> u64 {
            let line = said.lines().find(|line| line.contains(&format!("\"key\":\"{key}\"")));
            let line: serde_json::Value = serde_json::from_str(line.expect(key)).unwrap();
            let value = &line["value"];
            value.as_u64().or_else(|| value.as_str()?.parse().ok()).expect(key)
        };
        assert_eq!(number("opendir"), 0, "{state}");
        assert_eq!(number("gitignore-invalidation"), 0, "{state}");
        assert_eq!(number("directory-invalidation"), 0, "{state}");
        assert_eq!(number("refresh/sum_lstat"), 0, "{state}");
        std::fs::remove_file(&trace).unwrap();
        machine.zagi(&["unmount", "w"]).ok();
        machine.zagi(&["mount", "w"]).ok();
    }
    assert_eq!(machine.git(&w, &["update-index", "--show-index-version"]).ok().out, "2\n");
    machine.git(&w, &["fsck", "--strict"]).ok();
}

/// A work tree of the same repository elsewhere asks the same hook: it must not be told what
/// changed in the mount.
#[test]
fn another_work_tree_is_told_nothing() {
    let machine = Machine::new(Who::Me);
    let origin = super::git::repository(&machine, "trees");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let w = machine.work().join("w");
    for place in ["../elsewhere", "inside"] {
        machine.git(&w, &["worktree", "add", "-q", "--detach", place]).ok();
        let other = w.join(place);
        assert_eq!(machine.git(&other, &["status", "--porcelain"]).ok().out, "");
        machine.sh(&other, "echo more >> alpha.txt").ok();
        let status = machine.git(&other, &["status", "--porcelain"]).ok().out;
        assert_eq!(status, " M alpha.txt\n", "{place}");
    }
}

/// Without a daemon git looks by itself, and a workspace of real files has no hook.
#[test]
fn nobody_to_ask_is_no_harm() {
    let machine = Machine::new(Who::Me);
    let origin = super::git::repository(&machine, "alone");
    let origin = origin.to_str().unwrap();
    machine.zagi(&["mount", "--materialise", origin, "files"]).ok();
    let files = machine.work().join("files");
    machine.git(&files, &["config", "core.fsmonitor"]).fails(1, "");
    machine.zagi(&["mount", origin, "it's a mount"]).ok();
    let w = machine.work().join("it's a mount");
    let link = machine.git(&w, &["config", "core.fsmonitor"]).ok().out;
    machine.git(&w, &["status"]).ok();
    machine.sh(&w, "echo more >> alpha.txt").ok();
    std::fs::remove_file(Path::new(link.trim_end()).with_file_name("socket")).unwrap();
    let said = machine.git(&w, &["status", "--porcelain"]).ok();
    assert_eq!((said.out.as_str(), said.err.as_str()), (" M alpha.txt\n", ""));
}
