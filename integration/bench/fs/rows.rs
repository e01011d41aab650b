//! What is measured, as data.
//!
//! A row is a fresh mount, `before`, then each phase in turn, then `after`; natively there is no
//! mount, and `undo` puts the directory back into the state in which it was. The scripts have
//! `$FILES`, `$SIZE` (MiB), `$MAIN`, `$OTHER` (commits), `$BASE` (the tree, not to be changed),
//! `$TRASH/$N` (where natively goes what is in the way), `$TOOLS` (a Rust toolchain), `$WORK`.

/// What is timed.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// A shell script.
    Sh(&'static str),
    /// Opening and reading `$FILES` small files.
    Read,
    /// Making `$FILES` files of 300 bytes in `made/`.
    Create,
    /// Deleting `made/`.
    Delete,
    /// A job of fio's, `$SIZE` MiB of the given share.
    Fio(&'static [&'static str]),
}

/// One line of the table.
pub struct Phase {
    /// What the table says.
    pub name: &'static str,
    /// At most so many times as long as natively.
    pub aim: Option<f64>,
    /// An untimed script.
    pub before: &'static str,
    /// What is timed.
    pub step: Step,
}

/// Lines that are measured after one another, in one mount.
pub struct Row {
    /// For `--only`.
    pub key: &'static str,
    /// Rounds at most.
    pub rounds: usize,
    /// PostgreSQL refuses to be started by root.
    pub ordinary_only: bool,
    /// An untimed script.
    pub before: &'static str,
    /// What is timed.
    pub phases: &'static [Phase],
    /// An untimed script, also where a phase failed.
    pub after: &'static str,
    /// An untimed script for the native directory.
    pub undo: &'static str,
}

/// What most rows are.
pub const ROW: Row = Row {
    key: "",
    rounds: usize::MAX,
    ordinary_only: false,
    before: "",
    phases: &[],
    after: "",
    undo: "",
};

/// A line with an aim.
pub const fn phase(name: &'static str, aim: f64, step: Step) -> Phase {
    Phase { name, aim: Some(aim), before: "", step }
}

const fn no_aim(name: &'static str, step: Step) -> Phase {
    Phase { name, aim: None, before: "", step }
}

const STATUS: Step = Step::Sh(r#"test -z "$(git status --porcelain)""#);
// Also what .gitignore hides; nothing matches, which rg calls a failure.
const RG: Step = Step::Sh("! rg --no-ignore qwertzuiopasdfghjkl .");
const FIND: Step = Step::Sh("find . -path ./.git -prune -o -printf '%s %T@\\n' >/dev/null");
const DU: Step = Step::Sh("du -s --exclude=.git . >/dev/null");
const TAR: Step = Step::Sh("tar c --exclude=./.git . | cat >/dev/null");
const TSC: Step = Step::Sh("node_modules/.bin/tsc -p .");
const JEST: Step = Step::Sh("node_modules/.bin/jest --silent --cacheDirectory=.jest");
const PYTEST: Step = Step::Sh(
    "cd third_party/jinja2 && P=.. && \
     PYTHONPATH=src:$P/pytest/src:$P/pluggy/src:$P/iniconfig/src:$P/packaging/src:$P/markupsafe/src \
     python3 -m pytest -q",
);
const CARGO: Step =
    Step::Sh("cd third_party/ripgrep && PATH=$TOOLS/bin:$PATH cargo build -q --offline --locked");
const NPM_CI: Step = Step::Sh("npm ci --offline --ignore-scripts --no-audit --no-fund --silent");
const BENCH: Step = Step::Sh(
    "$(ls -d /usr/lib/postgresql/*/bin/pgbench | tail -1) -h $WORK -n -c 4 -j 2 -t $((FILES / 20)) postgres",
);
const SELECTS: Step = Step::Sh(
    "$(ls -d /usr/lib/postgresql/*/bin/pgbench | tail -1) -h $WORK -n -S -c 4 -j 2 -t $FILES postgres",
);

/// The rows, those last that delete much: see the program's own words on ext4.
pub const ROWS: &[Row] = &[
    Row {
        key: "status",
        phases: &[phase("git status, cold", 0.5, STATUS), phase("git status, warm", 0.5, STATUS)],
        ..ROW
    },
    Row {
        key: "find",
        phases: &[phase("find -printf, cold", 2.0, FIND), phase("find -printf, warm", 1.05, FIND)],
        ..ROW
    },
    Row { key: "du", phases: &[phase("du, cold", 2.0, DU), phase("du, warm", 1.05, DU)], ..ROW },
    Row {
        key: "rg",
        phases: &[
            no_aim("rg, cold", RG),
            phase("rg, warm", 1.05, RG),
            phase("find after rg", 1.05, FIND),
        ],
        ..ROW
    },
    Row {
        key: "tar",
        phases: &[phase("tar c, cold", 2.0, TAR), phase("tar c, warm", 1.05, TAR)],
        ..ROW
    },
    Row {
        key: "read",
        phases: &[
            no_aim("open and read small files, cold", Step::Read),
            phase("open and read small files, warm", 1.05, Step::Read),
        ],
        ..ROW
    },
    Row {
        key: "checkout",
        before: "git status >/dev/null",
        phases: &[no_aim("git checkout of 1,000 files", Step::Sh("git checkout -q $OTHER"))],
        undo: "git checkout -q $MAIN",
        ..ROW
    },
    Row {
        key: "fio",
        phases: &[
            no_aim("fio, sequential write", Step::Fio(&["--rw=write", "--bs=1M"])),
            phase("fio, sequential read", 1.05, Step::Fio(&["--rw=read", "--bs=1M", "--loops=4"])),
            phase("fio, random read of 4 KiB", 1.05, Step::Fio(&["--rw=randread", "--bs=4k"])),
            no_aim("fio, random write of 4 KiB", Step::Fio(&["--rw=randwrite", "--bs=4k"])),
        ],
        undo: "mv bench.fio $TRASH/$N",
        ..ROW
    },
    Row {
        key: "cp",
        phases: &[
            phase("cp -r of a package, cold", 2.0, Step::Sh("cp -r third_party/django copy")),
            phase("cp -r of a package, warm", 2.0, Step::Sh("cp -r third_party/django copy-2")),
        ],
        undo: "mkdir $TRASH/$N && mv copy copy-2 $TRASH/$N",
        ..ROW
    },
    Row {
        key: "tsc",
        rounds: 5,
        phases: &[
            phase("tsc, first", 1.2, TSC),
            Phase { name: "tsc, second", aim: Some(1.05), before: "rm -r build", step: TSC },
        ],
        undo: "mv build $TRASH/$N",
        ..ROW
    },
    Row {
        key: "jest",
        rounds: 5,
        phases: &[phase("jest, first", 1.2, JEST), phase("jest, second", 1.05, JEST)],
        undo: "mv .jest $TRASH/$N",
        ..ROW
    },
    Row {
        key: "pytest",
        rounds: 5,
        phases: &[phase("pytest, first", 1.2, PYTEST), phase("pytest, second", 1.05, PYTEST)],
        undo: "find third_party '(' -name __pycache__ -o -name .pytest_cache ')' -prune -exec rm -r {} +",
        ..ROW
    },
    Row {
        key: "cargo",
        rounds: 3,
        phases: &[
            phase("cargo build, first", 1.2, CARGO),
            Phase {
                name: "cargo build, second",
                aim: Some(1.05),
                before: "mv third_party/ripgrep/target third_party/ripgrep/target-1",
                step: CARGO,
            },
            phase("cargo build, nothing to do", 1.05, CARGO),
        ],
        undo: "mkdir $TRASH/$N && mv third_party/ripgrep/target* $TRASH/$N",
        ..ROW
    },
    Row {
        key: "pgbench",
        rounds: 3,
        ordinary_only: true,
        before: "PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -1):$PATH; \
                 initdb -D pg -A trust >/dev/null; \
                 pg_ctl -D pg -w -l pg.log -o \"-k $WORK -c listen_addresses=\" start >/dev/null; \
                 pgbench -h $WORK -i -q -s 5 postgres",
        phases: &[
            no_aim("pgbench, read and write", BENCH),
            no_aim("pgbench, select only", SELECTS),
        ],
        after: "$(ls -d /usr/lib/postgresql/*/bin/pg_ctl | tail -1) -D pg -m fast stop",
        undo: "mkdir $TRASH/$N && mv pg pg.log $TRASH/$N",
    },
    Row {
        key: "create",
        phases: &[
            phase("create small files", 2.0, Step::Create),
            phase("delete them", 2.0, Step::Delete),
        ],
        ..ROW
    },
    Row {
        key: "npm",
        rounds: 3,
        phases: &[
            phase("npm ci over what is there", 2.0, NPM_CI),
            phase("npm ci again", 2.0, NPM_CI),
        ],
        ..ROW
    },
    Row {
        key: "rm",
        rounds: 3,
        before: "find node_modules -printf '%s' >/dev/null",
        phases: &[phase("rm -rf node_modules", 2.0, Step::Sh("rm -rf node_modules"))],
        undo: "cp -a $BASE/node_modules node_modules",
        ..ROW
    },
];
