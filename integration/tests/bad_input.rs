//! What goes wrong says what, why and what to do, and leaves the old state whole.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zagi_integration::git::serve_well;
use zagi_integration::http::{Reply, Server};
use zagi_integration::machine::{Machine, Who, in_group};
use zagi_integration::publish::publish;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn address(server: &Server, name: &str) -> String {
    format!("{}/{name}", server.base)
}

/// Nothing half-made: no workspace, no directory.
#[track_caller]
fn nothing_stays(machine: &Machine, name: &str) {
    assert!(!machine.work().join(name).exists(), "{name} was left behind");
    let workspaces = machine.zagi(&["list", "--json"]).ok().json();
    let names: Vec<_> = workspaces.as_array().unwrap().iter().map(|w| w["name"].clone()).collect();
    assert!(!names.contains(&name.into()), "{names:?}");
}

#[test]
fn no_such_repository() {
    let machine = Machine::new(Who::Me);
    let served = tempfile::tempdir().unwrap();
    let server = serve_well(served.path());
    for repository in [
        address(&server, "none.git"),
        "pypi:zagi-no-such-package-here".into(),
        "/no/such/place".into(),
    ] {
        machine.zagi(&["mount", &repository, "w"]).fails(1, "error: ");
        nothing_stays(&machine, "w");
    }
    machine.zagi(&["mount", "pypi:itsdangerous@0.0.0.1", "w"]).fails(1, "0.0.0.1");
    nothing_stays(&machine, "w");
}

#[test]
fn no_network_uses_what_was_fetched_last_and_says_so() {
    let machine = Machine::new(Who::Me);
    let served = tempfile::tempdir().unwrap();
    publish(&fixture("go"), served.path(), "go.git");
    let server = serve_well(served.path());
    let url = address(&server, "go.git");
    machine.zagi(&["mount", "--no-deps", &url, "one"]).ok();
    let other = address(&server, "other.git");
    drop(server);
    let begun = Instant::now();
    let said = machine.zagi(&["mount", "--no-deps", &url, "two"]).ok();
    assert!(said.err.contains("warning: "), "{}", said.err);
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(machine.work().join("two/go.mod").exists());
    machine.zagi(&["mount", &other, "three"]).fails(1, "error: ");
    nothing_stays(&machine, "three");
}

#[test]
fn offline_names_what_is_missing() {
    let machine = Machine::new(Who::Me);
    machine.zagi(&["mount", "--offline", "pypi:itsdangerous", "w"]).fails(1, "itsdangerous");
    nothing_stays(&machine, "w");
}

#[test]
fn pinned_repositories_never_ask_twice() {
    let machine = Machine::new(Who::Me);
    let served = tempfile::tempdir().unwrap();
    let bare = publish(&fixture("go"), served.path(), "go.git");
    let commit = machine.git(&bare, &["-c", "safe.directory=*", "rev-parse", "HEAD"]).ok().out;
    let server = serve_well(served.path());
    let pinned = format!("{}@{}", address(&server, "go.git"), commit.trim());
    machine.zagi(&["mount", &pinned, "one"]).ok();
    let requests = server.requests().len();
    assert!(requests > 0);
    machine.zagi(&["mount", &pinned, "two"]).ok();
    assert_eq!(server.requests().len(), requests);
    assert!(machine.exec(&machine.work().join("two"), "go test ./...").ok().out.contains("ok"));
}

#[test]
fn a_lock_that_disagrees_with_the_manifest() {
    let machine = Machine::new(Who::Me);
    let origin = machine.work().join("origin");
    let script = format!(
        "cp -r '{}' '{o}' && cd '{o}' && sed -i 's/\"kleur\": \"^4.1.5\"/\"kleur\": \"^3.0.0\"/' \
         package.json && git init -q && git add -A && git -c user.name=T -c user.email=t@localhost \
         commit -q -m one",
        fixture("npm").display(),
        o = origin.display()
    );
    machine.sh(&machine.work(), &script).ok();
    let said = machine.zagi(&["mount", origin.to_str().unwrap(), "w"]);
    let said = said.fails(1, "package-lock.json");
    assert!(said.err.contains("hint: "), "{}", said.err);
    nothing_stays(&machine, "w");
    // It can still be looked at.
    machine.zagi(&["mount", "--no-deps", origin.to_str().unwrap(), "w"]).ok();
    assert!(machine.work().join("w/package.json").exists());
}

#[test]
fn an_installation_reaches_what_is_allowed_and_nothing_else() {
    let machine = Machine::new(Who::Me);
    let server = Server::start(|_| Reply::ok("hello"));
    let (address, host) = (&server.base, server.base.strip_prefix("http://").unwrap());
    let make = |name: &str, otherwise: &str| {
        let script = format!(
            "mkdir {name} && cd {name} && git init -q && echo '{{\"scripts\": {{\"postinstall\": \"sh fetch\"}}}}' \
             > package.json && echo \"curl -sS {address}/direct; \
             curl -fsS --noproxy '' {address}/proxied -o made {otherwise}\" > fetch && \
             git add -A && git -c user.name=T -c user.email=t@localhost commit -q -m one"
        );
        machine.sh(&machine.work(), &script).ok();
    };
    make("wants", "");
    make("tries", "|| true");
    let line = format!(
        "`{host}` was not reached: `[install] hosts = [\"{host}\"]` in `$ZAGI_HOME/config.toml`"
    );
    let said = machine.zagi(&["mount", "./wants", "w"]).fails(1, "error: ");
    assert!(said.err.contains(&format!("hint: {line}")), "{}", said.err);
    nothing_stays(&machine, "w");
    let said = machine.zagi(&["mount", "./tries", "t"]).ok();
    assert_eq!(said.err.matches(&line).count(), 1, "{}", said.err);
    assert!(said.err.contains("warning: npm: `"), "{}", said.err);
    assert_eq!(server.requests().len(), 0);
    let allow = format!("[install]\nhosts = [\"{host}\"]\n");
    std::fs::write(machine.home().join("config.toml"), allow).unwrap();
    machine.zagi(&["mount", "./wants", "w"]).ok();
    let asked: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(asked, ["/direct", "/proxied"]);
    assert_eq!(std::fs::read_to_string(machine.work().join("w/made")).unwrap(), "hello");
}

#[test]
fn a_tool_version_that_does_not_exist_names_the_nearest() {
    let machine = Machine::new(Who::Me);
    let origin = machine.work().join("origin");
    let script = "mkdir origin && cd origin && echo 22.99.0 > .nvmrc && echo '{}' > package.json \
         && git init -q && git add -A && git -c user.name=T -c user.email=t@localhost commit -q -m one";
    machine.sh(&machine.work(), script).ok();
    let said = machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).fails(1, "22.99.0");
    assert!(said.err.contains("22."), "{}", said.err);
    assert!(said.err.contains(".nvmrc"), "{}", said.err);
    nothing_stays(&machine, "w");
}

#[test]
fn a_directory_that_is_not_empty() {
    let machine = Machine::new(Who::Me);
    let origin = super::git::repository(&machine, "letters");
    machine.sh(&machine.work(), "mkdir full && echo mine > full/file").ok();
    let said = machine.zagi(&["mount", origin.to_str().unwrap(), "full"]);
    assert!(said.fails(1, "not empty").err.contains("hint: "));
    assert_eq!(machine.sh(&machine.work(), "cat full/file").ok().out, "mine\n");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).fails(1, "already");
}

#[test]
fn interrupted_nothing_half_made_stays_and_running_again_goes_on() {
    let machine = Machine::new(Who::Me);
    for delay in [300, 1500, 4000] {
        // Whoever runs this in the background of a script has SIGINT ignored.
        let mut mount = machine.command("env", &machine.work());
        mount.arg("--default-signal=INT").arg(machine.program());
        mount.args(["mount", "pypi:markupsafe", "w"]);
        let mut child = in_group(&mut mount).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        if child.try_wait().unwrap().is_some() {
            break; // done already: what was fetched before was not fetched again
        }
        killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        assert!(!child.wait().unwrap().success());
        nothing_stays(&machine, "w");
    }
    if !machine.work().join("w").exists() {
        machine.zagi(&["mount", "pypi:markupsafe", "w"]).ok();
    }
    let out = machine.exec(&machine.work().join("w"), "pytest -q 2>&1 | tail -1").ok().out;
    assert!(out.contains(" passed"), "{out}");
    let left: Vec<_> = std::fs::read_dir(machine.home().join("tmp")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_half_made() {
    let mut machine = Machine::new(Who::Me);
    let small = machine.work().join("small");
    machine
        .sh(&machine.work(), "mkdir small && mount -t tmpfs -o size=24m zagi-test-small small")
        .ok();
    machine.set("ZAGI_HOME", small.join("home").to_str().unwrap());
    let said = machine.zagi(&["mount", "pypi:itsdangerous", "w"]);
    let full = said.err.contains("No space left") || said.err.contains("no space");
    assert!(said.code == 1 && full, "{said:?}");
    nothing_stays(&machine, "w");
    machine.sh(&machine.work(), "mount -o remount,size=2g small").ok();
    machine.zagi(&["mount", "pypi:itsdangerous", "w"]).ok();
    let out = machine.exec(&machine.work().join("w"), "pytest -q 2>&1 | tail -1").ok().out;
    assert!(out.contains(" passed"), "{out}");
    machine.zagi(&["daemon", "stop", "--force"]).ok();
    machine.sh(&machine.work(), "umount -l small").ok();
}
