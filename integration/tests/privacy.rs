//! A mount is for whoever made it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use zagi_integration::machine::{Machine, ORDINARY, Said, Who};

/// A mount whose directories on the way are open to everybody: only the mount itself is between.
fn mounted(machine: &Machine, arguments: &[&str]) -> PathBuf {
    let origin = super::git::repository(machine, "letters");
    machine.zagi(&[&["mount"], arguments, &[origin.to_str().unwrap(), "w"]].concat()).ok();
    machine.sh(&machine.work(), "chmod 755 . && cd w && umask 0 && echo mine > mine").ok();
    machine.work().join("w")
}

/// A script as another user, by name.
fn other(user: &str, script: &str, path: &Path) -> Said {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", "nogroup", "--clear-groups", "--"]);
    Said::of(command.args(["sh", "-c", script, "sh"]).arg(path).current_dir("/"))
}

/// Nothing of the mount can be listed, read, written, run, entered or even looked at.
fn is_shut(dir: &Path, user: &str) {
    for script in [
        r#"ls "$1""#,
        r#"stat "$1/mine""#,
        r#"cat "$1/alpha.txt""#,
        r#"echo theirs >> "$1/mine""#,
        r#"echo theirs > "$1/theirs""#,
        r#""$1/run""#,
        r#"ls -d "$1/.""#,
    ] {
        let said = other(user, script, dir);
        let whole = said.out + &said.err;
        assert_ne!(said.code, 0, "{user} may: {script}\n{whole}");
        assert!(whole.contains("ermission denied"), "{user}: {script}\n{whole}");
    }
}

#[test]
fn roots_mount_is_shut_to_an_ordinary_user() {
    let machine = Machine::new(Who::Me);
    let dir = mounted(&machine, &[]);
    is_shut(&dir, ORDINARY);
    is_shut(&dir, "nobody");
    assert_eq!(std::fs::read_to_string(dir.join("mine")).unwrap(), "mine\n");
}

#[test]
fn an_ordinary_users_mount_is_shut_to_others_and_to_root() {
    let machine = Machine::new(Who::Ordinary);
    let dir = mounted(&machine, &[]);
    is_shut(&dir, "nobody");
    is_shut(&dir, "root");
    assert_eq!(machine.sh(&dir, "cat mine").ok().out, "mine\n");
}

#[test]
fn others_are_let_in_where_that_was_asked_for_and_modes_count() {
    let machine = Machine::new(Who::Me);
    let dir = mounted(&machine, &["--allow-other"]);
    assert_eq!(other("nobody", r#"cat "$1/alpha.txt""#, &dir).ok().out, "alpha\n");
    other("nobody", r#"echo theirs >> "$1/mine""#, &dir).ok();
    other("nobody", r#"echo theirs > "$1/alpha.txt""#, &dir).fails(2, "ermission denied");
    other("nobody", r#"echo theirs > "$1/theirs""#, &dir).fails(2, "ermission denied");
    assert_eq!(std::fs::read_to_string(dir.join("mine")).unwrap(), "mine\ntheirs\n");
    // It stays so, until a mount without it is made.
    machine.zagi(&["unmount", "w"]).ok();
    machine.zagi(&["mount", "w"]).ok();
    assert_eq!(other("nobody", r#"cat "$1/alpha.txt""#, &dir).ok().out, "alpha\n");
}

/// What lies on the disk: the delta, and the socket by which the daemon takes its orders.
#[test]
fn the_delta_and_the_daemon_are_shut_too() {
    for who in [Who::Me, Who::Ordinary] {
        let machine = Machine::new(who);
        mounted(&machine, &[]);
        // Even where the home itself was opened to all by whoever keeps theirs so.
        let home = machine.home();
        for dir in [home.parent().unwrap(), &home] {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let deltas = r#"cat "$1"/workspaces/*/delta/log "$1"/workspaces/*/delta/data/*/*"#;
        other("nobody", deltas, &home).fails(1, "");
        let said = other("nobody", r#"find "$1"/workspaces -path '*/delta/*'"#, &home);
        assert_eq!(said.out, "", "the delta can be looked into");
        let sockets = machine.sh(&home, "find . /run/user /tmp -name 'zagi-*.sock' -user $USER -newer store 2>/dev/null || true");
        let socket = sockets.out.lines().next().expect("the daemon listens somewhere").to_owned();
        let connect = r#"cd "$1" && python3 -c "import socket,sys
s = socket.socket(socket.AF_UNIX); s.connect('"#
            .to_owned()
            + &socket
            + r#"')""#;
        let said = other("nobody", &connect, &home);
        let whole = said.out + &said.err;
        assert!(said.code != 0 && whole.contains("ermission"), "{socket}: {whole}");
    }
}
