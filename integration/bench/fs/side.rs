//! The ways to present a tree.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::asked::Asked;
use super::place::{Place, last_lines, mounts_below};

/// How long a command may take to mount.
const PATIENCE: Duration = Duration::from_secs(30);

/// One way to present a tree.
#[derive(Debug, Clone)]
pub struct Side {
    /// Its name in the table.
    pub name: String,
    how: How,
    /// Whether only root can.
    pub root_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum How {
    Native,
    Zagi,
    /// A script, as `--peer` takes it.
    Command(String),
}

const LAYERS: &str = "lowerdir=$LOWER,upperdir=$UPPER/upper,workdir=$UPPER/work";

/// All of them: native first, zagi last.
pub fn all(asked: &Asked) -> Vec<Side> {
    let command = |name: &str, script: &str, root_only| {
        let script = format!("mkdir \"$UPPER/upper\" \"$UPPER/work\" && {script}");
        Side { name: name.to_owned(), how: How::Command(script), root_only }
    };
    let mut sides = vec![
        Side { name: "native".to_owned(), how: How::Native, root_only: false },
        command("overlayfs", &format!("mount -t overlay overlay -o {LAYERS} $DIR"), true),
        command("fuse-overlayfs", &format!("fuse-overlayfs -o {LAYERS} $DIR"), false),
    ];
    sides.extend(asked.peers.iter().map(|(name, script)| Side {
        name: name.clone(),
        how: How::Command(script.clone()),
        root_only: false,
    }));
    sides.push(Side { name: "zagi".to_owned(), how: How::Zagi, root_only: false });
    sides
}

impl Side {
    /// Whether it is the one that the others are measured against.
    pub fn is_native(&self) -> bool {
        self.how == How::Native
    }

    /// Whether it is what is to be judged.
    pub fn is_zagi(&self) -> bool {
        self.how == How::Zagi
    }
}

/// A side in a place.
pub struct Face<'a> {
    /// Which side.
    pub side: &'a Side,
    place: &'a Place,
    /// Where the tree is seen.
    pub dir: PathBuf,
    times: usize,
    mounted: bool,
    child: Option<Child>,
}

impl<'a> Face<'a> {
    /// Nothing is presented yet, but the native directory, which is `native`.
    pub fn new(place: &'a Place, side: &'a Side, number: usize) -> Face<'a> {
        let dir = match side.how {
            How::Native => place.path("native"),
            How::Zagi => place.path("zagi"),
            How::Command(_) => place.directory(&format!("side{number}")),
        };
        Face { side, place, dir, times: 0, mounted: false, child: None }
    }

    /// Presents the tree as it was at first. The native directory stays: each row undoes there
    /// what it did.
    pub fn fresh(&mut self) -> Result<(), String> {
        self.away();
        self.times += 1;
        match &self.side.how {
            How::Native => {}
            How::Zagi => {
                let name = format!("zagi{}", self.times);
                self.place.zagi(&["mount", "-q", "origin", &name]);
                self.dir = self.place.path(&name);
            }
            How::Command(script) => self.start(&script.clone())?,
        }
        self.mounted = true;
        Ok(())
    }

    /// Unmounts. What was written stays aside until the end.
    pub fn away(&mut self) {
        if !std::mem::take(&mut self.mounted) {
            return;
        }
        match &self.side.how {
            How::Native => {}
            How::Zagi => {
                self.place.zagi(&["unmount", "-q", &self.dir.to_string_lossy()]);
            }
            How::Command(_) => self.end(),
        }
    }

    fn start(&mut self, script: &str) -> Result<(), String> {
        let name = self.dir.file_name().expect("it has a name").to_string_lossy();
        let upper = self.place.directory(&format!("{name}-upper{}", self.times));
        let log = self.place.path(&format!("{name}.log"));
        let file = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut command = self.place.command("sh", &upper);
        command.args(["-c", script]).stdout(Stdio::null()).stderr(file);
        command.env("LOWER", self.place.path("base")).env("UPPER", &upper).env("DIR", &self.dir);
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let begun = Instant::now();
        let said = |why: &str| {
            format!("{why}: {}", std::fs::read_to_string(&log).unwrap_or_default().trim())
        };
        while mounts_below(&self.dir).is_empty() {
            let ended = child.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some_and(|status| !status.success()) {
                return Err(said("it did not mount"));
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(said("it did not mount in time"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.child = Some(child);
        Ok(())
    }

    fn end(&mut self) {
        for flags in [&[][..], &["-l"]] {
            for mount in mounts_below(&self.dir) {
                let mut command = std::process::Command::new("umount");
                let _ = command.args(flags).arg(mount).stderr(Stdio::null()).status();
            }
        }
        if let Some(mut child) = self.child.take() {
            let begun = Instant::now();
            while matches!(child.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Runs an untimed script in the tree.
    pub fn prepare(&self, script: &str, variables: &[(&str, String)]) -> Result<(), String> {
        if script.is_empty() {
            return Ok(());
        }
        let mut command = self.place.command("sh", &self.dir);
        command.args(["-ec", script]).envs(variables.iter().map(|(k, v)| (*k, v)));
        let output = command.output().map_err(|e| e.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("`{script}`: {}", last_lines(&output.stderr))),
        }
    }

    /// Runs a step in the tree: milliseconds.
    pub fn time(
        &self,
        step: &[String],
        limit: u64,
        variables: &[(&str, String)],
    ) -> Result<f64, String> {
        self.place.time(&self.dir, step, limit, variables)
    }
}

impl Drop for Face<'_> {
    fn drop(&mut self) {
        // After a panic the place clears up.
        if !std::thread::panicking() {
            self.away();
        }
    }
}
