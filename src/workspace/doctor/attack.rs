//! Whether an agent's sandbox holds on this machine: attacks on a process, files and sockets that
//! are made for it, unconfined and from inside.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tempfile::TempDir;
use zagi_sandbox::{Profile, attempt};

use crate::context::Context;
use crate::egress::{Rules, Way};
use crate::proxy::Proxies;
use crate::redteam::{self, ARGUMENT, ATTEMPTS, Canaries, Case, Hunts, Row, Run, VARIABLE};
use crate::workspace::confined::{self, Who};
use crate::workspace::error::{WorkspaceError, at};

/// Where the program is seen inside.
const PROGRAM: &str = "/zagi/attack";
/// How long something that outlives the control may take to show it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What both sides have in common.
struct Scene {
    /// Gone with this value, and all that was planted.
    dir: TempDir,
    canaries: Canaries,
    /// Left open for whatever inherits it.
    inherited: File,
}

/// The process that is attacked. It ends with this value.
struct Victim {
    process: Child,
    case: Case,
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        for path in self.case.scratch.values() {
            let _ = fs::remove_file(path);
        }
        // Where there is a keyring at all; else it goes by itself after a while.
        let _ = attempt::forget_key(&self.case.name);
    }
}

/// Tries everything, and compares.
pub fn attack(ctx: &Context) -> Result<Vec<Row>, WorkspaceError> {
    let scene = Scene::new().map_err(at(Path::new("/tmp")))?;
    let failed = at(scene.dir.path());
    let (control, case, lingered) = scene.control(ctx).map_err(failed)?;
    let inside = scene.inside(ctx, lingered)?;
    // Open until here.
    drop(scene.inherited);
    Ok(redteam::judge(&case, &scene.canaries, &control, &inside))
}

impl Scene {
    fn new() -> io::Result<Scene> {
        let dir = tempfile::Builder::new().prefix("zagi-attack-").tempdir()?;
        for place in ["control", "workspace"] {
            redteam::seed(&dir.path().join(place))?;
        }
        fs::create_dir(dir.path().join("agent"))?;
        let ids = ATTEMPTS.iter().filter(|attempt| attempt.hunts == Hunts::Value);
        let canaries = Canaries::new(ids.map(|attempt| attempt.id))?;
        let path = dir.path().join("inherited");
        fs::write(&path, canaries.of("inherited").map(|c| c.text()).unwrap_or_default())?;
        let inherited = File::open(path)?;
        fcntl(&inherited, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(Scene { dir, canaries, inherited })
    }

    fn place(&self, name: &str) -> io::Result<PathBuf> {
        self.dir.path().join(name).canonicalize()
    }

    fn victim(&self, ctx: &Context) -> io::Result<Victim> {
        let mut process = Command::new(&ctx.program)
            .args([ARGUMENT, "victim"])
            .arg(self.place(".")?)
            // To be found among its arguments.
            .arg(self.canaries.of("argv").map(|c| c.text()).unwrap_or_default())
            .env_clear()
            .env(VARIABLE, self.canaries.line())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let case = serde_json::from_str(&line).map_err(|_| {
            let _ = process.kill();
            io::Error::other("the process to be attacked did not start")
        })?;
        Ok(Victim { process, case })
    }

    /// Unconfined; and how long after its end something still lived.
    fn control(&self, ctx: &Context) -> io::Result<(Run, Case, Duration)> {
        let victim = self.victim(ctx)?;
        let place = self.place("control")?;
        let out = Command::new(&ctx.program)
            .args([ARGUMENT, "try", &victim.case.line()])
            .env_clear()
            .envs(ctx.var("PATH").map(|path| ("PATH", path)))
            .current_dir(&place)
            .stdin(Stdio::null())
            .output()?;
        let ended = Instant::now();
        while !place.join("outlived").exists() && ended.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let lingered = ended.elapsed();
        let run = Run::of(&[out.stdout, out.stderr].concat(), &place, &[], &victim.case);
        Ok((run, victim.case.clone(), lingered))
    }

    /// As an agent; `lingered` is how long to wait for what should not live.
    fn inside(&self, ctx: &Context, lingered: Duration) -> Result<Run, WorkspaceError> {
        let failed = |e| at(self.dir.path())(e);
        let (victim, place, home) = self
            .victim(ctx)
            .and_then(|victim| Ok((victim, self.place("workspace")?, self.place("agent")?)))
            .map_err(failed)?;
        let case = Case { all: true, ..victim.case.clone() }.line();
        let argv = [PROGRAM, ARGUMENT, "try", &case].map(str::to_owned);
        let who = Who {
            profile: Profile::Agent,
            argv: &argv,
            cwd: &place,
            files: &place,
            home: Some(home.clone()),
        };
        let plan = confined::bare(ctx, &place, who)
            .bind(&ctx.program, PROGRAM, false)
            .env("PATH", "/usr/bin:/bin");
        let unconfined = |source| WorkspaceError::Agent { source };
        let mut child = zagi_sandbox::spawn(&plan, &ctx.program).map_err(unconfined)?;
        // The way out that an agent has, with no host granted.
        let (rules, proxies) = (Rules::default(), Proxies::default());
        let way = Way { rules, proxies, broker: None, tell: Arc::new(|_| {}) };
        confined::serve(std::mem::take(&mut child.listeners).into_iter(), &Arc::new(way));
        let mut printed = Vec::new();
        for stream in [
            child.stdout.as_mut().map(|s| s as &mut dyn Read),
            child.stderr.as_mut().map(|s| s as &mut dyn Read),
        ] {
            stream.map_or(Ok(0), |s| s.read_to_end(&mut printed)).map_err(failed)?;
        }
        child.wait().map_err(unconfined)?;
        std::thread::sleep(lingered + Duration::from_millis(300));
        Ok(Run::of(&printed, &place, &[&home], &victim.case))
    }
}
