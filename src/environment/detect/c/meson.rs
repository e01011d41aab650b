//! `meson.build`: `dependency`, `find_library`, `find_program`, `subdir`.

use super::super::survey::{Place, Survey, Text};
use super::super::system::{self, Debian};
use super::super::types::Strength;
use super::{calls, files};

/// Reads the build; says whether it has tests.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    let below = |text: &Text| {
        let directories = calls(text, &["#"], |name| name == "subdir");
        directories
            .iter()
            .filter_map(|(_, _, said)| strings(said).next().map(str::to_owned))
            .collect()
    };
    let mut tests = false;
    for text in files(survey, place, "meson.build", below) {
        let known = |name: &str| {
            ["dependency", "find_library", "find_program", "import", "test"].contains(&name)
        };
        for (line, name, said) in calls(&text, &["#"], known) {
            let evidence =
                |what: &str| text.evidence(line, format!("{name}('{what}')"), Strength::Manifest);
            match name {
                "test" => tests = true,
                // Several are alternatives.
                "dependency" => {
                    positional(&said).find(|module| dependency(survey, module, evidence(module)));
                }
                "find_library" => {
                    positional(&said)
                        .find(|library| system::library(survey, library, evidence(library)));
                }
                "import" => {
                    if said.contains("'gnome'") {
                        system::module(survey, "glib-2.0", evidence("gnome"));
                    }
                }
                _ => {
                    for program in positional(&said).take(1) {
                        if matches!(system::debian(program), Debian::System)
                            && !program.contains("python")
                        {
                            system::add(survey, program, evidence(program));
                        }
                    }
                }
            }
        }
    }
    tests
}

/// A pkg-config module, or a name that Meson itself knows.
fn dependency(
    survey: &mut Survey<'_>,
    name: &str,
    evidence: super::super::types::Evidence,
) -> bool {
    match name {
        "threads" | "openmp" | "dl" | "intl" | "iconv" => true,
        "zlib" | "curses" | "boost" | "qt5" | "qt6" | "mpi" | "hdf5" | "netcdf" => {
            system::cmake(survey, name, &evidence)
        }
        "gtest" | "gmock" => system::module(survey, name, evidence),
        name => {
            system::module(survey, name, evidence.clone()) || system::cmake(survey, name, &evidence)
        }
    }
}

fn strings(said: &str) -> impl Iterator<Item = &str> {
    said.split('\'').skip(1).step_by(2)
}

/// The strings before the first named argument.
fn positional(said: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let end = said.char_indices().find(|(_, c)| {
        quoted ^= *c == '\'';
        *c == ':' && !quoted
    });
    strings(&said[..end.map_or(said.len(), |(at, _)| at)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_before_names() {
        let said = "'gtk+-3.0', ['a:b'], version: '>= 3.2', required: false";
        assert_eq!(positional(said).collect::<Vec<_>>(), ["gtk+-3.0", "a:b"]);
    }
}
