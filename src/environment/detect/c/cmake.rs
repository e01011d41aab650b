//! `CMakeLists.txt`: `find_package`, `pkg_check_modules`, `find_library`, `add_subdirectory`.

use super::super::survey::{Place, Survey, Text};
use super::super::system;
use super::super::types::Strength;
use super::{calls, files};

/// Arguments of `pkg_check_modules` that are no modules.
const OPTIONS: [&str; 8] = [
    "REQUIRED",
    "QUIET",
    "NO_CMAKE_PATH",
    "NO_CMAKE_ENVIRONMENT_PATH",
    "IMPORTED_TARGET",
    "GLOBAL",
    "STATIC_TARGET",
    "OPTIONAL",
];

/// Reads the build; says whether it has tests.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    let below = |text: &Text| {
        let directories = calls(text, &["#"], |name| name.eq_ignore_ascii_case("add_subdirectory"));
        let first = |said: &str| Some(said.split_whitespace().next()?.trim_matches('"').to_owned());
        let named = directories.iter().filter_map(|(_, _, said)| first(said));
        named.filter(|path| !path.contains('$')).collect()
    };
    let mut tests = false;
    for text in files(survey, place, "CMakeLists.txt", below) {
        let known = |name: &str| {
            [
                "find_package",
                "pkg_check_modules",
                "pkg_search_module",
                "find_library",
                "enable_testing",
                "add_test",
            ]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
        };
        for (line, name, said) in calls(&text, &["#"], known) {
            let words: Vec<&str> = said.split_whitespace().map(|w| w.trim_matches('"')).collect();
            let Some(first) = words.first() else {
                tests |= name.eq_ignore_ascii_case("enable_testing");
                continue;
            };
            let evidence = text.evidence(line, format!("{name}({first})"), Strength::Manifest);
            match name.to_ascii_lowercase().as_str() {
                "find_package" => {
                    qt(survey, &words, &evidence);
                    system::cmake(survey, first, &evidence);
                }
                "find_library" => {
                    for library in words.iter().skip(1).filter(|word| **word != "NAMES").take(4) {
                        let evidence = text.evidence(
                            line,
                            format!("find_library({library})"),
                            Strength::Manifest,
                        );
                        if system::library(survey, library, evidence) {
                            break;
                        }
                    }
                }
                "add_test" => tests = true,
                "enable_testing" => tests = true,
                search => {
                    for module in modules(&words[1..]) {
                        let evidence =
                            text.evidence(line, format!("{name}({module})"), Strength::Manifest);
                        let known = system::module(survey, module, evidence);
                        // One of several will do.
                        if known && search == "pkg_search_module" {
                            break;
                        }
                    }
                }
            }
        }
        tests |= text.text.contains("include(CTest)") || text.text.contains("INCLUDE(CTest)");
    }
    tests
}

/// `glib-2.0>=2.40`, `glib-2.0 >= 2.40`, among options.
fn modules<'w>(words: &'w [&str]) -> impl Iterator<Item = &'w str> {
    words
        .iter()
        .filter(|word| !OPTIONS.contains(word) && !word.contains('$'))
        .map(|word| word.split(['<', '>', '=']).next().unwrap_or(word))
        .filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// `find_package(Qt5 COMPONENTS Core Svg)`: the parts have packages of their own.
fn qt(survey: &mut Survey<'_>, words: &[&str], evidence: &super::super::types::Evidence) {
    if let [family @ ("Qt5" | "Qt6"), parts @ ..] = words {
        for part in parts {
            system::cmake(survey, &format!("{family}{part}"), evidence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_pkg_config() {
        let words = ["REQUIRED", "glib-2.0>=2.40", "gtk+-3.0", ">=", "3.2", "${MORE}"];
        assert_eq!(modules(&words).collect::<Vec<_>>(), ["glib-2.0", "gtk+-3.0"]);
    }
}
