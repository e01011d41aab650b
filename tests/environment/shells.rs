//! The hook in real interactive shells.

use std::path::{Path, PathBuf};
use std::process::Command;

use zagi::environment::activate::{Activation, FILE, LINK, Record, VERSION};

use crate::support::Machine;

/// A home with one environment, and a workspace that has it.
fn prepare(machine: &Machine) -> (PathBuf, PathBuf) {
    let ctx = machine.context("http://127.0.0.1:1");
    let env = ctx.home.envs().join("abc");
    let record = Record {
        version: VERSION,
        key: "abc".into(),
        root: ctx.home.root().to_owned(),
        activation: Activation {
            path: vec!["{workspace}/.venv/bin".into(), "{workspace}/.zagi/env/bin".into()],
            vars: [("MODE", "{workspace}/m"), ("NEW", "n")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            ..Activation::default()
        },
        view: None,
        trees: Vec::new(),
    };
    std::fs::create_dir_all(env.join("bin")).expect("it can be made");
    let text = serde_json::to_vec(&record).expect("it has a form in JSON");
    std::fs::write(env.join(FILE), text).expect("it can be written");
    let workspace = machine.dir.path().join("a b'$c");
    std::fs::create_dir_all(workspace.join("src")).expect("it can be made");
    std::fs::create_dir_all(workspace.join(".zagi")).expect("it can be made");
    std::os::unix::fs::symlink(&env, workspace.join(LINK)).expect("it can be made");
    (env, workspace)
}

/// Goes in, to a directory inside, and out, and says what it finds each time.
fn round(shell: &str, arguments: &[&str], prompt: &str) -> String {
    let machine = Machine::new();
    let (env, workspace) = prepare(&machine);
    let say = "echo \"$PATH|$MODE|${NEW-unset}|${ZAGI_WORKSPACE-unset}\"";
    let script = format!(
        "eval \"$(\"$PROGRAM\" hook {shell})\"\n\
         {prompt}; {say}\ncd \"$THERE\"; (exit 3); {prompt}; echo code $?; {say}\n\
         cd src; {prompt}; {say}\ncd /; {prompt}; {say}\necho \"${{__ZAGI_STATE-gone}}\"\n"
    );
    let out = Command::new(shell)
        .args(arguments)
        .args(["-c", &script])
        .env_clear()
        .env("HOME", machine.dir.path())
        .env("ZAGI_HOME", machine.home())
        .env("PATH", "/usr/bin:/bin")
        .env("MODE", "before")
        .env("PROGRAM", env!("CARGO_BIN_EXE_zagi"))
        .env("THERE", &workspace)
        .current_dir("/")
        .output()
        .expect("the shell starts");
    assert!(out.status.success(), "{out:?}");
    let text = String::from_utf8(out.stdout).expect("it says text");
    let name = |path: &Path| path.to_str().expect("temporary names are text").to_owned();
    text.replace(&name(&env), "ENV").replace(&name(&workspace), "HERE")
}

const EXPECTED: &str = "/usr/bin:/bin|before|unset|unset\n\
    code 3\n\
    ENV/bin:/usr/bin:/bin:HERE/.venv/bin|HERE/m|n|HERE\n\
    ENV/bin:/usr/bin:/bin:HERE/.venv/bin|HERE/m|n|HERE\n\
    /usr/bin:/bin|before|unset|unset\n\
    gone\n";

#[test]
fn bash_puts_it_on_and_takes_it_off() {
    assert_eq!(round("bash", &["--norc", "--noprofile"], "_zagi_hook"), EXPECTED);
}

/// As [`round`], in fish's own language.
#[test]
fn fish_puts_it_on_and_takes_it_off() {
    if Command::new("fish").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "fish is missing, and in CI a skip is a failure");
        eprintln!("skipped: there is no fish on this machine");
        return;
    }
    let machine = Machine::new();
    let (env, workspace) = prepare(&machine);
    let say = "set -q NEW; and set n $NEW; or set n unset; \
               set -q ZAGI_WORKSPACE; and set w $ZAGI_WORKSPACE; or set w unset; \
               echo (string join : $PATH)\"|$MODE|$n|$w\"";
    // `cd` alone calls the hook there.
    let script = format!(
        "$PROGRAM hook fish | source\n{say}\ncd $THERE; echo code 3; {say}\ncd src; {say}\n\
         cd /; {say}\nset -q __ZAGI_STATE; or echo gone\n"
    );
    let out = Command::new("fish")
        .args(["--no-config", "-c", &script])
        .env_clear()
        .env("HOME", machine.dir.path())
        .env("ZAGI_HOME", machine.home())
        .env("PATH", "/usr/bin:/bin")
        .env("MODE", "before")
        .env("PROGRAM", env!("CARGO_BIN_EXE_zagi"))
        .env("THERE", &workspace)
        .current_dir("/")
        .output()
        .expect("the shell starts");
    assert!(out.status.success(), "{out:?}");
    let text = String::from_utf8(out.stdout).expect("it says text");
    let name = |path: &Path| path.to_str().expect("temporary names are text").to_owned();
    let text = text.replace(&name(&env), "ENV").replace(&name(&workspace), "HERE");
    assert_eq!(text, EXPECTED);
}

#[test]
fn zsh_puts_it_on_and_takes_it_off() {
    if Command::new("zsh").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "zsh is missing, and in CI a skip is a failure");
        eprintln!("skipped: there is no zsh on this machine");
        return;
    }
    // `cd` alone calls the hook there.
    assert_eq!(round("zsh", &["-f"], "_zagi_hook"), EXPECTED);
}
