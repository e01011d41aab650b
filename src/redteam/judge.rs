//! Whether an attempt worked.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::attempts::{ATTEMPTS, Attempt, Hunts, Tried};
use super::canary::{Canaries, Canary, Form, PLANTED};
use super::victim::Case;

/// What one attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It works, and not inside.
    Held,
    /// It worked inside.
    Failed,
    /// It does not work on this machine anyway, so that nothing is shown.
    NotShown,
}

/// One attempt, on both sides.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its number in the matrix.
    pub vector: u8,
    /// Its name.
    pub id: &'static str,
    /// What was tried.
    pub what: &'static str,
    /// What it came to.
    pub verdict: Verdict,
    /// Unconfined: why it did not work, where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// Inside: what stopped it, as the program was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// How the value was written where it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
}

/// All attempts from one side.
#[derive(Debug)]
pub struct Run {
    /// Everything that could be seen there: what was printed, what was written to files.
    pub seen: Vec<u8>,
    /// What each attempt said of itself.
    pub tried: BTreeMap<String, Tried>,
    /// The attempts that changed a file.
    changed: Vec<&'static str>,
}

impl Run {
    /// Of what was printed, what is in files that could be read there, and which of the attempts that
    /// write somewhere did.
    pub fn new(printed: &[u8], files: &[u8], changed: impl Fn(&Attempt) -> bool) -> Run {
        let text = String::from_utf8_lossy(printed);
        let tried = text.lines().filter_map(|line| serde_json::from_str::<Tried>(line).ok());
        let writes = |attempt: &&Attempt| !matches!(attempt.hunts, Hunts::Value | Hunts::Door);
        Run {
            seen: [printed, b"\n", files].concat(),
            tried: tried.map(|tried| (tried.id.clone(), tried)).collect(),
            changed: ATTEMPTS
                .iter()
                .filter(|attempt| writes(attempt) && changed(attempt))
                .map(|attempt| attempt.id)
                .collect(),
        }
    }

    /// The same, on this side of a workspace and of whatever else could be written to.
    pub fn of(printed: &[u8], workspace: &Path, others: &[&Path], case: &Case) -> Run {
        let mut files = Vec::new();
        for directory in [workspace].iter().chain(others) {
            collect(directory, &mut files);
        }
        Run::new(printed, &files, |attempt| {
            let path = match attempt.hunts {
                Hunts::Workspace(path) => workspace.join(path),
                Hunts::Home(path) => case.dir.join(path),
                Hunts::Value | Hunts::Door => return false,
            };
            fs::read_to_string(path).is_ok_and(|text| text.contains(PLANTED))
        })
    }

    /// What it got, and in which form; or what it was told. By what was seen of it at all, or by its
    /// own words alone: another attempt's success is no control.
    fn got(
        &self,
        attempt: &Attempt,
        canary: Option<&Canary>,
        own: bool,
    ) -> Result<Option<Form>, String> {
        let tried = self.tried.get(attempt.id);
        let refused = || {
            let Some(tried) = tried else { return "it was not tried".into() };
            tried.refused.clone().unwrap_or_else(|| match attempt.hunts {
                Hunts::Home(_) => "what it changed is its own".into(),
                Hunts::Workspace(_) => "nothing of it was there afterwards".into(),
                Hunts::Value | Hunts::Door => "what it got is another".into(),
            })
        };
        match attempt.hunts {
            Hunts::Value => {
                let canary = canary.ok_or("nothing was planted")?;
                let found = match own {
                    true => tried.and_then(|t| canary.found_in(t.got.as_ref()?.as_bytes())),
                    false => canary.found_in(&self.seen),
                };
                found.map(Some).ok_or_else(refused)
            }
            Hunts::Door if tried.is_some_and(|tried| tried.got.is_some()) => Ok(None),
            Hunts::Workspace(_) | Hunts::Home(_) if self.changed.contains(&attempt.id) => Ok(None),
            _ => Err(refused()),
        }
    }
}

/// Compares the two sides.
pub fn judge(case: &Case, canaries: &Canaries, control: &Run, inside: &Run) -> Vec<Row> {
    let row = |attempt: &Attempt| {
        let canary = canaries.of(attempt.id);
        let (outside, within) =
            (control.got(attempt, canary, true), inside.got(attempt, canary, false));
        let tried = inside.tried.contains_key(attempt.id);
        let verdict = match (&outside, &within) {
            (_, Ok(_)) => Verdict::Failed,
            (Ok(_), Err(_)) if tried => Verdict::Held,
            _ => Verdict::NotShown,
        };
        let missing = case.missing.get(attempt.id).cloned();
        Row {
            vector: attempt.vector,
            id: attempt.id,
            what: attempt.what,
            verdict,
            form: within.as_ref().ok().copied().flatten(),
            control: outside.err().map(|said| missing.unwrap_or(said)),
            inside: within.err(),
        }
    };
    ATTEMPTS.iter().map(row).collect()
}

/// Everything in the files below a directory, links not followed.
fn collect(directory: &Path, seen: &mut Vec<u8>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        seen.extend_from_slice(entry.file_name().as_encoded_bytes());
        if kind.is_dir() {
            collect(&entry.path(), seen);
        } else if kind.is_file()
            && entry.metadata().is_ok_and(|about| about.len() < 1 << 20)
            && let Ok(bytes) = fs::read(entry.path())
        {
            // Not one long word out of two.
            seen.push(b'\n');
            seen.extend(bytes);
        }
    }
}
