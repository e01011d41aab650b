//! How fast a workspace is beside other ways to present the same tree, and how it bears many
//! mounts and large trees.
//!
//! ```text
//! cargo build --release --workspace && target/release/bench-fs            # every row
//! target/release/bench-fs --only status,find --rounds 9 --user ordinary
//! target/release/bench-fs --peer 'NAME=exec program "$LOWER" "$UPPER" "$DIR"'
//! target/release/bench-fs scale
//! ```
//!
//! Side by side and in turn, in one run: the native directory, the kernel's overlayfs (root
//! only), `fuse-overlayfs`, whatever `--peer` names, and `zagi mount`. All but zagi stand on
//! what `zagi mount --materialise` and `cp -a` made of the same repository, on the same disk.
//! "Cold" is a fresh mount over a warm disk cache, "warm" the second look. What is deleted to
//! begin a round anew is moved away, since ext4 is slow to make files for a minute after a
//! large tree was deleted. All of it lies in `$TMPDIR`, some gigabytes.
//!
//! | file | what |
//! |---|---|
//! | `asked` | the arguments |
//! | `corpus` | the repository, made once of published packages |
//! | `place` | one user's directories and processes; how they go, also when interrupted |
//! | `side` | the ways to present a tree |
//! | `rows` | what is measured, as data |
//! | `step` | what runs, and is timed, in a process of the user's |
//! | `speed` | rounds and medians |
//! | `table` | Markdown |
//! | `scale` | many mounts, large trees |
//!
//! It wants root, Debian's `fuse3 fuse-overlayfs fio ripgrep postgresql nodejs npm python3`, a
//! Rust toolchain, and for the first run the registries.

mod asked;
mod corpus;
mod place;
mod rows;
mod scale;
mod side;
mod speed;
mod step;
mod table;

use std::process::ExitCode;

use asked::{Asked, Part};
use place::Interrupt;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == step::WORD
    {
        return step::main(rest);
    }
    let asked = match Asked::parse(&arguments) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("error: {why}\n\n{}", asked::USAGE);
            return ExitCode::from(2);
        }
    };
    assert!(nix::unistd::geteuid().is_root(), "both users are measured, so it starts as root");
    let interrupt = Interrupt::watch();
    let well = match asked.part {
        Part::Speed => speed::run(&asked, &interrupt),
        Part::Scale => scale::run(&asked, &interrupt),
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
