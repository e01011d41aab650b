//! Debian control data, deb822(5): paragraphs of `Field: value`, and the dependency
//! language of deb-control(5).

use super::version;

/// One paragraph: fields in the order of the file. Continuation lines are kept, joined
/// by a newline.
#[derive(Debug, Default, Clone)]
pub struct Paragraph<'a> {
    fields: Vec<(&'a str, std::borrow::Cow<'a, str>)>,
}

impl<'a> Paragraph<'a> {
    /// The value of a field; names are compared as Debian does, without case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, v)| v.as_ref())
    }

    fn push(&mut self, line: &'a str) {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = self.fields.last_mut() {
                let value = value.to_mut();
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            self.fields.push((name, value.trim().into()));
        }
    }
}

/// The paragraphs of a control file, in order. Lines that are no field are passed over.
pub fn paragraphs(text: &str) -> impl Iterator<Item = Paragraph<'_>> {
    let mut lines = text.lines();
    std::iter::from_fn(move || {
        let mut paragraph = Paragraph::default();
        for line in lines.by_ref() {
            if line.trim().is_empty() {
                if !paragraph.fields.is_empty() {
                    return Some(paragraph);
                }
            } else if !line.starts_with('#') {
                paragraph.push(line);
            }
        }
        (!paragraph.fields.is_empty()).then_some(paragraph)
    })
}

/// How a dependency compares versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// One alternative of a dependency: `libc6 (>= 2.36)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The package, real or virtual.
    pub name: String,
    /// The versions that will do; `None` for any.
    pub version: Option<(Relation, String)>,
}

impl Dependency {
    /// Reads one alternative. The architecture qualifier (`:any`) and build restrictions
    /// are dropped: everything here is for one architecture.
    pub fn parse(text: &str) -> Option<Dependency> {
        let text = text.trim();
        let end = text.find([' ', '(', '[', '<', ':']).unwrap_or(text.len());
        let name = text[..end].to_owned();
        if name.is_empty() {
            return None;
        }
        let version = text.split_once('(').and_then(|(_, rest)| {
            let inside = rest.split(')').next()?.trim();
            let at = inside.find(|c: char| !matches!(c, '<' | '>' | '='))?;
            let relation = match &inside[..at] {
                "<<" => Relation::Earlier,
                "<=" | "<" => Relation::EarlierOrEqual,
                "=" => Relation::Equal,
                ">=" | ">" => Relation::LaterOrEqual,
                ">>" => Relation::Later,
                _ => return None,
            };
            Some((relation, inside[at..].trim().to_owned()))
        });
        Some(Dependency { name, version })
    }

    /// Whether a package of version `found` will do.
    pub fn satisfied_by(&self, found: &str) -> bool {
        let Some((relation, wanted)) = &self.version else { return true };
        let order = version::compare(found, wanted);
        match relation {
            Relation::Earlier => order.is_lt(),
            Relation::EarlierOrEqual => order.is_le(),
            Relation::Equal => order.is_eq(),
            Relation::LaterOrEqual => order.is_ge(),
            Relation::Later => order.is_gt(),
        }
    }
}

/// A `Depends` value: all groups must hold, one alternative of each.
pub fn dependencies(text: &str) -> Vec<Vec<Dependency>> {
    text.split(',')
        .map(|group| group.split('|').filter_map(Dependency::parse).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_keep_continuation_lines() {
        let text = "Package: a\nDescription: one\n two\n .\n\n\n# note\nPackage: b\n";
        let all: Vec<_> = paragraphs(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("description"), Some("one\ntwo\n."));
        assert_eq!(all[1].get("Package"), Some("b"));
    }

    #[test]
    fn dependencies_have_alternatives_and_versions() {
        let parsed =
            dependencies("libc6 (>= 2.36), gcc | clang:any (<< 20~), x [amd64] <!nocheck>");
        assert_eq!(parsed.len(), 3);
        assert_eq!(parsed[1][1].name, "clang");
        assert!(parsed[1][1].satisfied_by("19") && !parsed[1][1].satisfied_by("20"));
        assert!(parsed[0][0].satisfied_by("2.36-9+deb12u14") && !parsed[0][0].satisfied_by("2.31"));
        assert_eq!(parsed[2][0], Dependency { name: "x".into(), version: None });
    }
}
