//! What differs between shells: how the hook is installed, and how variables are set.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::quote;

/// A shell that the hook knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
    /// direnv: the `use zagi` of an `.envrc`, which bash evaluates.
    Direnv,
}

/// What a shell evaluates once, at its start. Twice does no harm. `program` is this
/// program's own file.
pub fn hook(shell: Shell, program: &Path) -> Vec<u8> {
    let template: &[u8] = match shell {
        Shell::Bash => {
            br#"_zagi_hook() {
  local previous=$?
  eval "$(@ hook-env bash)"
  return $previous
}
if [[ "$(declare -p PROMPT_COMMAND 2>/dev/null)" == "declare -a"* ]]; then
  if [[ " ${PROMPT_COMMAND[*]} " != *" _zagi_hook "* ]]; then
    PROMPT_COMMAND=(_zagi_hook "${PROMPT_COMMAND[@]}")
  fi
elif [[ ";${PROMPT_COMMAND:-};" != *";_zagi_hook;"* ]]; then
  PROMPT_COMMAND="_zagi_hook${PROMPT_COMMAND:+;$PROMPT_COMMAND}"
fi
"#
        }
        Shell::Zsh => {
            br#"_zagi_hook() {
  local previous=$?
  eval "$(@ hook-env zsh)"
  return $previous
}
typeset -ga precmd_functions chpwd_functions
if [[ -z "${precmd_functions[(r)_zagi_hook]+1}" ]]; then
  precmd_functions=(_zagi_hook $precmd_functions)
fi
if [[ -z "${chpwd_functions[(r)_zagi_hook]+1}" ]]; then
  chpwd_functions=(_zagi_hook $chpwd_functions)
fi
"#
        }
        Shell::Fish => {
            br#"function _zagi_hook --on-event fish_prompt --on-variable PWD
  @ hook-env fish | source
end
"#
        }
        // What changes is asked for again when one of these does.
        Shell::Direnv => {
            br#"use_zagi() {
  watch_file .zagi/env.toml .zagi/env.lock .zagi/env
  eval "$(@ hook-env direnv)"
}
"#
        }
    };
    let at = template.windows(6).position(|w| w == b"@ hook").unwrap_or(0);
    let mut out = template[..at].to_vec();
    out.extend(shell.quote(program.as_os_str()));
    out.extend(&template[at + 1..]);
    out
}

/// The commands that make `now` of `before`.
pub(super) fn difference(
    shell: Shell,
    before: &BTreeMap<OsString, OsString>,
    now: &BTreeMap<OsString, OsString>,
) -> Vec<u8> {
    let (set, is, unset): (&[u8], &[u8], &[u8]) = match shell {
        Shell::Fish => (b"set -gx ", b" ", b"set -e "),
        Shell::Bash | Shell::Zsh | Shell::Direnv => (b"export ", b"=", b"unset "),
    };
    let mut out = Vec::new();
    for (name, value) in now {
        if before.get(name) != Some(value) {
            out.extend([set, name.as_bytes(), is, &shell.quote(value), b"\n"].concat());
        }
    }
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        out.extend([unset, name.as_bytes(), b"\n"].concat());
    }
    out
}

impl Shell {
    /// A word that the shell takes as it is, whatever is in it.
    fn quote(self, text: &OsStr) -> Vec<u8> {
        if self != Shell::Fish {
            return quote(text);
        }
        let escaped = |byte: &u8| match byte {
            b'\'' | b'\\' => vec![b'\\', *byte],
            byte => vec![*byte],
        };
        let inner: Vec<u8> = text.as_bytes().iter().flat_map(escaped).collect();
        [b"'", inner.as_slice(), b"'"].concat()
    }

    /// The command that tells the user something about `dir`.
    pub(super) fn say(self, dir: &Path, text: &str) -> Vec<u8> {
        // A name may hold what a terminal obeys, or what zsh's `echo` would turn into that.
        let line = format!("zagi: {}{text}", dir.to_string_lossy().replace(char::is_control, "?"));
        [b"printf '%s\\n' ", self.quote(OsStr::new(&line)).as_slice(), b" >&2\n"].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_installs_once_and_keeps_the_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("za'gi");
        crate::program::write(&program, b"#!/bin/sh\necho \"hooked=$2; false\"\n");
        let text = hook(Shell::Bash, &program);
        for before in ["", "PROMPT_COMMAND='true;true'\n", "PROMPT_COMMAND=(true)\n"] {
            let mut script = before.as_bytes().to_vec();
            for _ in 0..2 {
                script.extend(&text);
            }
            script.extend(
                b"\n(exit 7); _zagi_hook; echo $? $hooked; declare -p PROMPT_COMMAND | grep -o _zagi_hook | wc -l",
            );
            let out = std::process::Command::new("/bin/bash")
                .args([OsStr::new("-c"), OsStr::from_bytes(&script)])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&out.stdout);
            assert_eq!(
                said.split_whitespace().collect::<Vec<_>>(),
                ["7", "bash", "1"],
                "{before}: {out:?}"
            );
        }
    }

    #[test]
    fn fish_quotes_in_its_own_way() {
        let quoted = Shell::Fish.quote(OsStr::new(r"it's \ $x"));
        assert_eq!(quoted, br"'it\'s \\ $x'");
    }
}
