//! The hook in real shells, `exec`, the shims.

use zagi_integration::machine::{Machine, Said, Who};

fn on_and_off(machine: &Machine, shell: &str) {
    // What a prompt does, without a terminal: the hook's own function after each `cd`.
    let prompt = match shell {
        "bash" => "eval \"$PROMPT_COMMAND\"",
        _ => "for f in $precmd_functions $chpwd_functions; do $f; done",
    };
    let script = format!(
        r#"
        p() {{ {prompt}; }}
        eval "$(zagi hook {shell})"
        cd "$1"; before=$PATH; p
        [ "$PATH" = "$before" ] || echo "changed outside"
        cd "$1/it's "'$HOME'; p
        python -c 'import itsdangerous; print(itsdangerous.__file__)'
        command -v pytest >/dev/null || echo "lost pytest"
        cd docs; p; command -v pytest >/dev/null || echo "lost below"
        cd "$1"; p
        [ "$PATH" = "$before" ] || echo "left over: $PATH"
        command -v pytest || echo gone
        "#
    );
    let work = machine.work();
    let mut command = machine.command(shell, &work);
    let path = format!("{}:/usr/bin:/bin", work.parent().unwrap().display());
    command.env("PATH", path).args(["-c", &script, shell]).arg(&work);
    let said = Said::of(&mut command).ok();
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].contains("it's $HOME"), "{shell}: {said:?}");
    assert_eq!(lines.last(), Some(&"gone"), "{shell}: {said:?}");
    assert!(!said.out.contains("left over") && !said.out.contains("lost"), "{shell}: {said:?}");
    assert!(!said.out.contains("changed outside"), "{shell}: {said:?}");
}

#[test]
fn the_hook_comes_and_goes_exactly() {
    let machine = Machine::new(Who::Me);
    // A name that a careless hook would expand.
    machine.zagi(&["mount", "pypi:itsdangerous", "it's $HOME"]).ok();
    for shell in ["bash", "zsh"] {
        on_and_off(&machine, shell);
    }
}

#[test]
fn exec_is_clean_and_gives_the_childs_code() {
    let mut machine = Machine::new(Who::Me);
    for (name, value) in
        [("PYTHONPATH", "/nowhere"), ("RUST_BACKTRACE", "1"), ("SECRET_TOKEN", "s3cret")]
    {
        machine.set(name, value);
    }
    machine.zagi(&["mount", "pypi:itsdangerous", "w"]).ok();
    let w = machine.work().join("w");
    let env = machine.exec(&w, "env").ok().out;
    for leaked in ["PYTHONPATH", "RUST_BACKTRACE", "SECRET_TOKEN"] {
        assert!(!env.contains(leaked), "{env}");
    }
    for present in ["HOME=", "USER=", "PATH=", "LANG="] {
        assert!(env.lines().any(|l| l.starts_with(present)), "{present} is missing: {env}");
    }
    // What python leaves beside what it imports is nobody's edit.
    machine.exec(&w, "python -c 'import pytest' && ls .venv/lib/*/site-packages/__pycache__").ok();
    let status = machine.zagi(&["status", "--json", "w"]).ok().json();
    assert_eq!(status["dependencies"]["changes"].as_array().unwrap().len(), 0, "{status}");
    assert_eq!(machine.exec(&w, "exit 42").code, 42);
    let missing = Said::of(&mut machine.zagi_in(&w, &["exec", "--", "no-such-program"]));
    missing.fails(127, "no-such-program");
    machine.zagi(&["exec", "--", "true"]).fails(1, "not in a workspace");
}

#[test]
fn shims_work_without_a_hook() {
    let machine = Machine::new(Who::Me);
    machine.zagi(&["mount", "crate:semver", "w"]).ok();
    let w = machine.work().join("w");
    // As an editor would: by path, with nothing of the environment set.
    machine.sh(&w, ".zagi/env/bin/cargo check --offline --quiet").ok();
    machine.zagi(&["mount", "pypi:itsdangerous", "p"]).ok();
    let out = machine.sh(&machine.work().join("p"), ".venv/bin/python -m pytest -q").ok().out;
    assert!(out.contains(" passed"), "{out}");
}

/// A repository that git cloned and zagi never mounted.
fn in_place(who: Who) {
    let machine = Machine::new(who);
    let dir = super::git::repository(&machine, "plain");
    let zagi = |arguments: &[&str]| Said::of(&mut machine.zagi_in(&dir, arguments));
    zagi(&["exec", "--", "true"]).fails(1, "not in a workspace");
    machine.sh(&dir, "mkdir .zagi && printf '[tools]\\nnode = \"22\"\\n[env]\\nLEVEL = \"7\"\\n' > .zagi/env.toml").ok();
    // What a clone brings is made ready by the first command that needs it.
    let said = zagi(&["exec", "--", "sh", "-c", "node -v; echo $LEVEL"]).ok();
    assert!(said.out.starts_with("v22.") && said.out.ends_with("\n7\n"), "{said:?}");
    let status = machine.git(&dir, &["status", "--porcelain", "-uall"]).ok().out;
    assert_eq!(status, "?? .zagi/env.lock\n?? .zagi/env.toml\n");
    let said = zagi(&["add", "uv"]).ok().err;
    assert!(said.contains("added    uv"), "{said}");
    machine.sh(&dir, ".zagi/env/bin/uv --version").ok();
    // It stands on what it has: nothing of it is collected.
    zagi(&["store", "gc"]).ok();
    zagi(&["--offline", "exec", "--", "uv", "--version"]).ok();
    hooked(&machine, &dir);
    let audit = zagi(&["env", "audit"]).ok().out;
    assert!(audit.contains("hash of npm, not signed") && audit.contains("any machine"), "{audit}");
    zagi(&["remove", "uv"]).ok();
    assert_eq!(zagi(&["exec", "--", "uv"]).code, 127);
}

/// The hook in it, with trust, and direnv.
fn hooked(machine: &Machine, dir: &std::path::Path) {
    let script = |shell: &str| {
        let work = machine.work();
        let path = format!("{}:/usr/bin:/bin", work.parent().unwrap().display());
        let mut command = machine.command("bash", dir);
        command.env("PATH", path).env("DIRENV_LOG_FORMAT", "").args(["-c", shell]);
        Said::of(&mut command).ok()
    };
    let hook = "eval \"$(zagi hook bash)\"; eval \"$PROMPT_COMMAND\"; node -v; echo level=$LEVEL";
    let said = script(hook);
    assert!(said.out.starts_with("v22.") && said.out.ends_with("level=\n"), "{said:?}");
    let said = Said::of(&mut machine.zagi_in(dir, &["trust"])).ok();
    assert!(said.err.contains("LEVEL=\"7\""), "{said:?}");
    assert!(script(hook).out.ends_with("level=7\n"));
    machine.sh(dir, "sed -i s/7/8/ .zagi/env.toml").ok();
    let said = script(hook);
    assert!(said.out.ends_with("level=\n") && said.err.contains("zagi trust"), "{said:?}");
    machine.sh(dir, "sed -i s/8/7/ .zagi/env.toml").ok();
    let direnv = "export ZAGI_HOME=$HOME/.zagi HOME=$PWD/../home; mkdir -p $HOME/.config/direnv/lib; \
                  zagi hook direnv > $HOME/.config/direnv/lib/zagi.sh; echo 'use zagi' > .envrc; \
                  direnv allow; direnv exec . node -v; rm .envrc";
    let said = script(direnv);
    assert!(said.out.contains("v22."), "{said:?}");
}

#[test]
fn a_checkout_has_its_tools_in_place_as_root() {
    in_place(Who::Me);
}

#[test]
fn a_checkout_has_its_tools_in_place_as_an_ordinary_user() {
    in_place(Who::Ordinary);
}
