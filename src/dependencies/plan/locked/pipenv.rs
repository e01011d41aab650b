//! `Pipfile.lock`: JSON, with everything said of each package.

use serde_json::Value;
use toml_edit::DocumentMut;

use super::marker::{self, Marker};
use super::{From, Pin, Read, normal_name, path_of, table};

/// The kinds of dependencies: in the lock file, and in the manifest.
const KINDS: [(&str, &str); 2] = [("default", "packages"), ("develop", "dev-packages")];

pub(super) fn read(lock: &str, manifest: &str) -> Result<Read, String> {
    let lock: Value = serde_json::from_str(lock).map_err(|e| e.to_string())?;
    let manifest: DocumentMut = manifest.parse().unwrap_or_default();
    let mut read = Read::default();
    for source in lock["_meta"]["sources"].as_array().into_iter().flatten() {
        let url = source["url"].as_str().unwrap_or_default().trim_end_matches('/');
        // An address that holds a variable is for somebody else's machine.
        if !url.is_empty() && url != "https://pypi.org/simple" && !url.contains('$') {
            read.indexes.push(url.to_owned());
        }
    }
    for (locked, asked) in KINDS {
        for (name, said) in lock[locked].as_object().into_iter().flatten() {
            let pin = pin(&normal_name(name), said);
            // A package of both kinds is pinned twice, to the same.
            if !read.pins.iter().any(|known: &Pin| known.name == pin.name) {
                read.pins.push(pin);
            }
        }
        let asked = table(&manifest, &[asked]);
        read.asked.extend(asked.into_iter().flat_map(|t| t.iter()).map(|(n, _)| normal_name(n)));
    }
    Ok(read)
}

fn pin(name: &str, said: &Value) -> Pin {
    let text = |key: &str| said[key].as_str();
    let hashes = said["hashes"].as_array().into_iter().flatten();
    let from = match (text("git"), text("file"), text("path")) {
        (Some(git), _, _) => {
            let git = git.strip_prefix("git+").unwrap_or(git);
            let revision = text("ref").map_or(String::new(), |r| format!("@{r}"));
            let below =
                text("subdirectory").map_or(String::new(), |d| format!("#subdirectory={d}"));
            From::Direct(format!("git+{git}{revision}{below}"))
        }
        (None, Some(file), _) => From::Direct(file.to_owned()),
        (None, None, Some(path)) if said["editable"] == true => From::Editable(path_of(path)),
        (None, None, Some(path)) => From::Direct(path_of(path)),
        (None, None, None) => From::Index,
    };
    Pin {
        name: name.to_owned(),
        version: text("version").unwrap_or_default().trim_start_matches('=').to_owned(),
        hashes: hashes.filter_map(|hash| Some(hash.as_str()?.to_owned())).collect(),
        marker: match text("markers") {
            Some(marker) => marker::read(marker, &Default::default()),
            None => Marker::Known(true),
        },
        from,
    }
}
