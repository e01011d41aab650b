//! Looking again: what the kernel says of this process after all was done. Anything that
//! is not as it should be is an error, and no program starts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Step;
use crate::plan::Plan;
use crate::report::Failure;
use crate::root::Expected;

/// The kinds of namespaces that are told apart, with what `/proc/self/ns` says of each.
pub(crate) type Namespaces = Vec<(&'static str, Option<std::path::PathBuf>)>;

const KINDS: [&str; 6] = ["user", "mnt", "ipc", "uts", "net", "cgroup"];

/// The namespaces of this process.
pub(crate) fn namespaces() -> Namespaces {
    KINDS
        .iter()
        .map(|kind| (*kind, fs::read_link(Path::new("/proc/self/ns").join(kind)).ok()))
        .collect()
}

/// Checks everything. `before` is what the caller's namespaces are, `filters` how many were
/// installed.
pub(crate) fn all(
    plan: &Plan,
    before: &Namespaces,
    expected: &[Expected],
    filters: usize,
) -> Result<Vec<String>, Failure> {
    let wrong = |what: String| Failure::said(Step::Verify, what);
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|e| Failure::at(Step::Verify, "/proc/self/status", e))?;
    privileges(&status, plan, filters).map_err(wrong)?;
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| Failure::at(Step::Verify, "/proc/self/mountinfo", e))?;
    mounts(&mountinfo, expected).map_err(wrong)?;
    pinned(&mountinfo, plan).map_err(wrong)?;
    separate(plan, before).map_err(wrong)
}

/// Every kind of namespace is another than the caller's.
fn separate(plan: &Plan, before: &Namespaces) -> Result<Vec<String>, String> {
    if std::process::id() != 1 {
        return Err("the process is not the first of its pid namespace".into());
    }
    let mut separate = vec!["pid".to_owned()];
    for ((kind, before), (_, after)) in before.iter().zip(namespaces()) {
        let (Some(before), Some(after)) = (before, after) else {
            return Err(format!("the {kind} namespace is not known"));
        };
        match *before != after {
            true => separate.push((*kind).to_owned()),
            false if *kind == "net" && plan.network => {}
            false => return Err(format!("the {kind} namespace is the caller's")),
        }
    }
    separate.sort();
    Ok(separate)
}

/// `/proc/self/status`: no capability, no way to one, the right user.
fn privileges(status: &str, plan: &Plan, least: usize) -> Result<(), String> {
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).ok_or_else(|| format!("the kernel does not say {name}"))
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if !field(set)?.trim_start_matches('0').is_empty() {
            return Err(format!("{set} is {}", field(set)?));
        }
    }
    if field("NoNewPrivs")? != "1" {
        return Err("no_new_privs is not set".into());
    }
    for (name, id) in [("Uid", plan.identity.uid), ("Gid", plan.identity.gid)] {
        let ids = field(name)?;
        if ids.split_whitespace().any(|found| found != id.to_string()) {
            return Err(format!("{name} is {ids}"));
        }
    }
    // seccomp(2): 2 is a filter. Other filters may have been there before.
    let filters: usize = field("Seccomp_filters")?.parse().unwrap_or(0);
    if field("Seccomp")? != "2" || filters < least {
        return Err(format!("{filters} system call filters hold"));
    }
    Ok(())
}

/// `/proc/self/mountinfo` (proc_pid_mountinfo(5)): each mount is one of the expected, or
/// lies below one and is no freer than that.
fn mounts(mountinfo: &str, expected: &[Expected]) -> Result<(), String> {
    let mut found = 0;
    for line in mountinfo.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(at), Some(options)) = (fields.next(), fields.next()) else {
            return Err(format!("mountinfo says `{line}`"));
        };
        let at = unescape(at);
        let covering = expected.iter().filter(|e| Path::new(&at).starts_with(&e.at));
        let above = covering
            .max_by_key(|e| e.at.components().count())
            .ok_or_else(|| format!("`{at}` is mounted"))?;
        // One may cover another at the same place (a bind over `/tmp`): both are listed.
        let same: Vec<&Expected> = expected.iter().filter(|e| e.at == above.at).collect();
        let writable = same.iter().any(|e| e.writable);
        let devices = same.iter().any(|e| e.devices);
        if above.at == Path::new("/") && at != "/" {
            return Err(format!("`{at}` is mounted"));
        }
        found += usize::from(above.at == Path::new(&at));
        let has = |option: &str| options.split(',').any(|o| o == option);
        if !has("nosuid") || !(has("nodev") || devices) || !(has("ro") || writable) {
            return Err(format!("`{at}` is mounted {options}"));
        }
    }
    if found < expected.len() {
        return Err("a mount is missing".into());
    }
    Ok(())
}

/// Each pin, or a directory or file that it would be in, is a read-only mount of its own.
fn pinned(mountinfo: &str, plan: &Plan) -> Result<(), String> {
    let points = |ro: bool| {
        let read_only = move |l: &&str| {
            !ro || l.split(' ').nth(5).is_some_and(|o| o.split(',').any(|o| o == "ro"))
        };
        mount_points_of(mountinfo.lines().filter(read_only)).collect::<Vec<_>>()
    };
    let (all, read_only) = (points(false), points(true));
    for pin in &plan.pins {
        let path = pin.path.as_path();
        let base = plan.base(path).unwrap_or(path);
        let below = |p: &&Path| p.starts_with(base) && *p != base;
        let mut above: Vec<&Path> = path.ancestors().filter(below).collect();
        above.reverse();
        let last = above.iter().position(|p| read_only.iter().any(|m| m == p));
        let held =
            last.is_some_and(|last| above[..last].iter().all(|p| all.iter().any(|m| m == p)));
        if !held {
            return Err(format!("`{}` is not pinned", path.display()));
        }
    }
    Ok(())
}

/// Where something is mounted, by `/proc/self/mountinfo`.
pub(crate) fn mount_points(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mount_points_of(mountinfo.lines())
}

fn mount_points_of<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = PathBuf> {
    lines.filter_map(|line| Some(PathBuf::from(unescape(line.split(' ').nth(4)?))))
}

/// Space, tab, newline and backslash stand as three octal digits in mountinfo.
fn unescape(field: &str) -> String {
    let mut out = Vec::new();
    let mut rest = field.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let digits = after.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(escaped) if *byte == b'\\' => {
                out.push(escaped);
                rest = &after[3..];
            }
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(at: &str, writable: bool) -> Expected {
        Expected::own(at, writable)
    }

    const ROOT: &str = "1 1 0:1 / / ro,nosuid,nodev - tmpfs tmpfs rw\n";

    fn check(lines: &str, with: &[Expected]) -> Result<(), String> {
        let mut all = vec![expected("/", false)];
        all.extend_from_slice(with);
        mounts(&format!("{ROOT}{lines}"), &all)
    }

    #[test]
    fn a_mount_must_be_expected_and_no_freer() {
        let usr = [expected("/usr", false)];
        let line = |at: &str, options: &str| format!("2 1 0:2 / {at} {options} - ext4 /dev/x rw\n");
        assert_eq!(check(&line("/usr", "ro,nosuid,nodev,relatime"), &usr), Ok(()));
        assert!(check(&line("/usr", "rw,nosuid,nodev"), &usr).is_err());
        assert!(check(&line("/usr", "ro,nodev"), &usr).is_err());
        assert!(check(&line("/usr", "ro,nosuid"), &usr).is_err());
        assert!(check(&line("/home", "ro,nosuid,nodev"), &usr).is_err());
        assert!(check("", &usr).is_err(), "a bind that did not happen");
        let below = line("/usr", "ro,nosuid,nodev") + &line("/usr/local", "rw,nosuid,nodev");
        assert!(check(&below, &usr).is_err(), "a writable mount below a read-only bind");
    }

    #[test]
    fn mount_points_with_blanks_are_understood() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        let bind = [expected("/a b", true)];
        assert_eq!(check("2 1 0:2 / /a\\040b rw,nosuid,nodev - ext4 x rw\n", &bind), Ok(()));
    }

    #[test]
    fn capabilities_in_any_set_are_seen() {
        let plan = Plan::new(crate::Profile::Install, vec![]);
        let status = |bounding: &str, nnp: &str, uid: &str| {
            format!(
                "Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t1000\t1000\t1000\t1000\n\
                 CapInh:\t0000\nCapPrm:\t0000\nCapEff:\t0000\nCapBnd:\t{bounding}\n\
                 CapAmb:\t0000\nNoNewPrivs:\t{nnp}\nSeccomp:\t2\nSeccomp_filters:\t9\n"
            )
        };
        assert_eq!(privileges(&status("0000", "1", "1000"), &plan, 4), Ok(()));
        assert!(privileges(&status("0400", "1", "1000"), &plan, 4).is_err());
        assert!(privileges(&status("0000", "0", "1000"), &plan, 4).is_err());
        assert!(privileges(&status("0000", "1", "0"), &plan, 4).is_err());
        assert!(privileges("", &plan, 4).is_err());
        let unfiltered = status("0000", "1", "1000").replace("filters:\t9", "filters:\t1");
        assert!(privileges(&unfiltered, &plan, 4).is_err());
    }
}
