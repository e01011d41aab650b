//! The arguments.

use zagi_integration::machine::Who;

/// How it is called.
pub const USAGE: &str = "\
usage: bench-fs [speed|scale] [--only ROW,...] [--rounds N] [--quick] [--user root|ordinary]
                [--peer NAME=COMMAND]

COMMAND is run by `sh -c` and presents $LOWER at $DIR, keeping what is written below the empty
directory $UPPER; it may stay or go into the background. It is ended by unmounting $DIR.";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Rows of work, against native.
    Speed,
    /// Many mounts, large trees.
    Scale,
}

/// What was asked for.
#[derive(Debug)]
pub struct Asked {
    /// What is measured.
    pub part: Part,
    /// Keys of the rows; all where empty.
    pub only: Vec<String>,
    /// Rounds at most; the median counts.
    pub rounds: usize,
    /// One round of a tenth of the work: whether it runs at all.
    pub quick: bool,
    /// As whom.
    pub users: Vec<Who>,
    /// Names and commands of further ways to present a tree.
    pub peers: Vec<(String, String)>,
}

impl Asked {
    /// Reads the arguments, or says what is wrong with them.
    pub fn parse(arguments: &[String]) -> Result<Asked, String> {
        let mut asked = Asked {
            part: Part::Speed,
            only: Vec::new(),
            rounds: 5,
            quick: false,
            users: vec![Who::Me, Who::Ordinary],
            peers: Vec::new(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{argument} wants a value"));
            match argument.as_str() {
                "speed" => asked.part = Part::Speed,
                "scale" => asked.part = Part::Scale,
                "--only" => asked.only = value()?.split(',').map(str::to_owned).collect(),
                "--rounds" => {
                    let rounds = value()?;
                    let number = rounds.parse().ok().filter(|n| *n > 0);
                    asked.rounds = number.ok_or(format!("`{rounds}` is no number of rounds"))?;
                }
                "--quick" => asked.quick = true,
                "--user" => {
                    asked.users = match value()?.as_str() {
                        "root" => vec![Who::Me],
                        "ordinary" => vec![Who::Ordinary],
                        other => return Err(format!("`{other}` is neither root nor ordinary")),
                    }
                }
                "--peer" => {
                    let peer = value()?;
                    let (name, command) =
                        peer.split_once('=').ok_or(format!("`{peer}` is not NAME=COMMAND"))?;
                    asked.peers.push((name.to_owned(), command.to_owned()));
                }
                other => return Err(format!("`{other}` is not known")),
            }
        }
        if asked.quick {
            asked.rounds = 1;
        }
        Ok(asked)
    }

    /// Whether the row `key` is wanted.
    pub fn wants(&self, key: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == key)
    }
}
