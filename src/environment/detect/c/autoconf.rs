//! `configure.ac`: `PKG_CHECK_MODULES`, `AC_CHECK_LIB`, `AC_CHECK_HEADER`; or a `configure`
//! without it.

use super::super::survey::{Place, Survey};
use super::super::system;
use super::super::types::Strength;
use super::calls;

/// Macros that look for one program or library.
const MACROS: [(&str, &str); 14] = [
    ("AC_PROG_LEX", "flex"),
    ("AC_PROG_YACC", "bison"),
    ("AM_GNU_GETTEXT", "gettext"),
    ("AM_ICONV", ""),
    ("AM_PATH_CPPUNIT", "libcppunit-dev"),
    ("AM_PATH_GTK_2_0", "libgtk2.0-dev"),
    ("AM_PATH_LIBGCRYPT", "libgcrypt"),
    ("AM_PATH_SDL", "libsdl1.2-dev"),
    ("AM_PATH_SDL2", "sdl2"),
    ("AX_BOOST_BASE", "boost"),
    ("AX_WITH_CURSES", "ncurses"),
    ("BOOST_REQUIRE", "boost"),
    ("GOBJECT_INTROSPECTION_CHECK", "gobject-introspection"),
    ("IT_PROG_INTLTOOL", "intltool"),
];

/// Reads the build; says whether it has tests: `make check` is always there.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    let Some(name) = ["configure.ac", "configure.in"].into_iter().find(|name| place.has(name))
    else {
        return true;
    };
    let Some(text) = survey.text(&place.path(name)) else { return true };
    // Some macros stand without parentheses.
    for (line, said) in text.lines() {
        let said = said.trim();
        let known = MACROS.iter().find(|(name, _)| {
            said.strip_prefix(name)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        });
        if let Some((name, package)) = known.filter(|(_, package)| !package.is_empty()) {
            system::add(survey, package, text.evidence(line, *name, Strength::Manifest));
        }
    }
    let known = |name: &str| {
        matches!(
            name,
            "PKG_CHECK_MODULES"
                | "PKG_CHECK_EXISTS"
                | "PKG_CHECK_MODULES_STATIC"
                | "AC_CHECK_LIB"
                | "AC_SEARCH_LIBS"
                | "AC_CHECK_HEADER"
                | "AC_CHECK_HEADERS"
        )
    };
    for (line, name, said) in calls(&text, &["#", "dnl"], known) {
        let arguments = split(&said);
        let argument = |index: usize| arguments.get(index).map_or("", String::as_str);
        let list = match name {
            "PKG_CHECK_MODULES" | "PKG_CHECK_MODULES_STATIC" | "AC_SEARCH_LIBS" => argument(1),
            _ => argument(0),
        };
        for one in words(list) {
            let evidence = text.evidence(line, format!("{name} {one}"), Strength::Manifest);
            let known = match name {
                "AC_CHECK_LIB" | "AC_SEARCH_LIBS" => system::library(survey, one, evidence),
                "AC_CHECK_HEADER" | "AC_CHECK_HEADERS" => system::header(survey, one, evidence),
                _ => system::module(survey, one, evidence),
            };
            // One of several will do.
            if known && name == "AC_SEARCH_LIBS" {
                break;
            }
        }
    }
    true
}

/// The arguments of a macro: separated by commas, quoted by brackets.
fn split(said: &str) -> Vec<String> {
    let mut arguments = vec![String::new()];
    let mut depth = 0i32;
    for c in said.chars() {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth -= 1,
            ',' if depth <= 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = arguments.last_mut() {
            last.push(if matches!(c, '[' | ']') { ' ' } else { c });
        }
    }
    arguments
}

/// Names among comparisons: `glib-2.0 >= 2.40 gio-2.0`.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([' ', '\t', ',', '"']).filter_map(|word| {
        let name = word.split(['<', '>', '=']).next().unwrap_or(word);
        name.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_macros() {
        let arguments = split("[GTK], [gtk+-3.0 >= 3.2, glib-2.0], [a(b, c)]");
        assert_eq!(arguments.len(), 3);
        assert_eq!(words(&arguments[1]).collect::<Vec<_>>(), ["gtk+-3.0", "glib-2.0"]);
    }
}
