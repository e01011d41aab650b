//! zagi and its peers, each as its manual says it is used, all with zstd at level 3 where
//! that can be chosen.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How one tool is asked. `$TREE` is what is stored, `$REPO` a directory for the tool,
/// `$OUT` where it is restored to, `$N` counts the times of storing.
pub struct Tool {
    /// Its name in the table.
    pub name: &'static str,
    /// Makes an empty repository.
    pub init: &'static str,
    /// Stores the tree.
    pub store: &'static str,
    /// Whether storing looks at the last time.
    pub remembers: bool,
    /// Writes what was stored last to a directory that is missing.
    pub restore: &'static str,
    /// The same where an older state stands there. `None`: it cannot.
    pub over: Option<&'static str>,
    /// Whether it restores below the whole name of the tree.
    pub whole_name: bool,
    /// How often it is measured; the median counts. Those that take several times as long as
    /// the others are measured once.
    pub rounds: usize,
}

/// zagi first.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "zagi",
        init: "",
        store: "$ZAGI -q snapshot $TREE > $REPO/../id",
        remembers: true,
        restore: "$ZAGI -q restore $(cat $REPO/../id) $OUT",
        over: Some("$ZAGI -q restore $(cat $REPO/../id) $OUT"),
        whole_name: false,
        rounds: 3,
    },
    Tool {
        name: "restic",
        init: "restic init -q",
        store: "restic backup -q $TREE",
        remembers: true,
        restore: "restic restore -q latest --target $OUT",
        // It says of each symbolic link that it exists, and goes on.
        over: Some("restic restore -q latest --target $OUT 2>/dev/null || true"),
        whole_name: true,
        rounds: 1,
    },
    Tool {
        name: "borg",
        init: "borg init -e none",
        store: "borg create -C zstd,3 ::$N $TREE",
        remembers: true,
        restore: "mkdir -p $OUT && cd $OUT && borg extract ::$(borg list --short --last 1)",
        over: Some("cd $OUT && borg extract ::$(borg list --short --last 1)"),
        whole_name: true,
        rounds: 1,
    },
    Tool {
        name: "casync",
        init: "",
        store: "casync make --with=unix --store=$REPO/store.castr $REPO/a.caidx $TREE >/dev/null",
        remembers: false,
        restore: "casync extract --store=$REPO/store.castr $REPO/a.caidx $OUT",
        over: Some(
            "casync extract --store=$REPO/store.castr $REPO/a.caidx $OUT 2>/dev/null || true",
        ),
        whole_name: false,
        rounds: 1,
    },
    Tool {
        name: "tar \\| zstd",
        init: "",
        store: "tar -C $TREE -cf - . | zstd -q -3 -T0 -o $REPO/$N.tar.zst",
        remembers: false,
        restore: "mkdir $OUT && zstd -q -dc $(ls -t $REPO/*.zst | head -1) | tar -C $OUT -xf -",
        over: None,
        whole_name: false,
        rounds: 3,
    },
    Tool {
        name: "cp -a",
        init: "",
        store: "cp -a $TREE $REPO/$N",
        remembers: false,
        restore: "cp -a $(ls -td $REPO/* | head -1) $OUT",
        over: None,
        whole_name: false,
        rounds: 3,
    },
];

/// A repository of one tool, and a place to restore to. They stay: ext4 does not give out an
/// inode again for a minute, and whoever makes files after a large tree was deleted pays for
/// the search.
pub struct Place {
    dir: PathBuf,
    program: PathBuf,
    times: u32,
    outs: u32,
}

impl Place {
    /// An empty one in `run`.
    pub fn new(run: &Path, program: &Path) -> Place {
        let dir = tempfile::tempdir_in(run).expect("the directory is ours").keep();
        std::fs::create_dir(dir.join("repository")).expect("it is new");
        Place { dir, program: program.to_owned(), times: 0, outs: 0 }
    }

    /// Where the tool's files are.
    pub fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    /// Where the tool restores to.
    pub fn out(&self) -> PathBuf {
        self.dir.join(format!("out{}", self.outs))
    }

    /// Restores to another directory from now on.
    pub fn elsewhere(&mut self) {
        self.outs += 1;
    }

    /// Runs `script`, and says how long it took.
    ///
    /// # Panics
    /// Where it fails.
    pub fn run(&mut self, script: &str, tree: &Path) -> Duration {
        self.times += 1;
        let mut shell = self.shell(script, tree);
        // What was written before must not be paid for by whoever comes next.
        nix::unistd::sync();
        let began = Instant::now();
        let output = shell.output().expect("there is a shell");
        let took = began.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        took
    }

    fn shell(&self, script: &str, tree: &Path) -> Command {
        let (dir, repository) = (&self.dir, self.repository());
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).stdin(Stdio::null()).stdout(Stdio::null());
        shell.env("ZAGI", &self.program).env("ZAGI_HOME", &repository);
        shell.env("RESTIC_REPOSITORY", &repository).env("RESTIC_PASSWORD", "x");
        shell.env("RESTIC_CACHE_DIR", dir.join("cache"));
        shell.env("BORG_REPO", &repository).env("BORG_BASE_DIR", dir.join("cache"));
        shell.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        shell.env("REPO", repository).env("TREE", tree).env("OUT", self.out());
        shell.env("N", self.times.to_string());
        shell
    }
}
