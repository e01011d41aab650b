//! Two hundred processes at once.

use std::fs;
use std::process::Stdio;

use zagi_integration::machine::{Machine, Who};

use super::{Lots, describe, is_sound, printed, snapshot, str};

const PROCESSES: usize = 200;

#[test]
fn two_hundred_processes_at_once_all_succeed() {
    let machine = Machine::new(Who::Me);
    let origin = super::super::git::repository(&machine, "letters");
    let dirs: Vec<_> = (0..10).map(|n| machine.work().join(format!("w{n}"))).collect();
    for (n, dir) in dirs.iter().enumerate() {
        fs::create_dir(dir).unwrap();
        for file in 0..20 {
            let bytes = Lots((n as u64 % 3) * 100 + file).bytes(1_000 + 3_000 * file as usize);
            fs::write(dir.join(format!("f{file}")), bytes).unwrap();
        }
    }
    let first = snapshot(&machine, &dirs[0]);
    let expected = describe(&dirs[0]);
    let children: Vec<_> = (0..PROCESSES)
        .map(|n| {
            let dir = &dirs[n / 4 % dirs.len()];
            let to = machine.work().join(format!("to{n}"));
            let arguments = match n % 8 {
                0 | 4 => vec!["snapshot", str(dir)],
                1 | 5 => vec!["restore", &first, str(&to)],
                2 => vec!["chunk", str(dir)],
                3 => vec!["restore", "--require-link", &first, str(&to)],
                6 if n % 16 == 6 => vec!["mount", "--offline", str(&origin), str(&to)],
                6 => vec!["store", "stats"],
                _ => vec!["diff", &first, &first],
            }
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
            let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut command = machine.zagi_in(&machine.work(), &borrowed);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            (arguments, to, child)
        })
        .collect();
    for (arguments, to, child) in children {
        let done = child.wait_with_output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{arguments:?}: {}\n{out}{err}", done.status);
        match arguments[0].as_str() {
            "restore" => assert_eq!(describe(&to), expected, "{arguments:?}"),
            "snapshot" => assert!(printed(&out).is_some(), "{arguments:?}: {out}"),
            "mount" => assert_eq!(fs::read(to.join("sub/beta.txt")).unwrap(), b"beta\n"),
            _ => {}
        }
    }
    is_sound(&machine);
}
