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
