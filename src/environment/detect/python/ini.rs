//! INI files as Python's `configparser` reads them: sections, keys, and values that go on
//! over indented lines.

use std::collections::BTreeMap;

/// A file's sections.
#[derive(Debug, Default)]
pub(super) struct Ini {
    sections: BTreeMap<String, BTreeMap<String, Vec<(u32, String)>>>,
}

impl Ini {
    /// Reads `text`; what is not understood is passed over. `first` is the number of the
    /// first line.
    pub fn parse(text: &str, first: u32) -> Ini {
        let mut ini = Ini::default();
        let (mut section, mut key) = (String::new(), String::new());
        for (number, line) in (first..).zip(text.lines()) {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            let in_section = ini.sections.entry(section.clone()).or_default();
            if line.starts_with([' ', '\t']) && !key.is_empty() {
                let value = without_comment(trimmed).to_owned();
                in_section.entry(key.clone()).or_default().push((number, value));
            } else if let Some(name) = trimmed.strip_prefix('[').and_then(|s| s.split(']').next()) {
                section = name.trim().to_owned();
                key.clear();
            } else if let Some(end) = trimmed.find(['=', ':']) {
                key = trimmed[..end].trim().to_ascii_lowercase();
                let value = without_comment(trimmed[end + 1..].trim()).to_owned();
                in_section.insert(key.clone(), vec![(number, value)]);
            }
        }
        ini
    }

    pub fn has(&self, section: &str) -> bool {
        self.sections.contains_key(section)
    }

    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }

    /// The keys of `section`.
    pub fn keys(&self, section: &str) -> impl Iterator<Item = &str> {
        self.sections.get(section).into_iter().flatten().map(|(key, _)| key.as_str())
    }

    /// The lines of a value that say something, with their numbers.
    pub fn lines(&self, section: &str, key: &str) -> Vec<(u32, String)> {
        let value = self.sections.get(section).and_then(|keys| keys.get(key));
        value.into_iter().flatten().filter(|(_, line)| !line.is_empty()).cloned().collect()
    }

    /// The value's first line.
    pub fn value(&self, section: &str, key: &str) -> Option<(u32, String)> {
        self.lines(section, key).into_iter().next()
    }
}

fn without_comment(value: &str) -> &str {
    let end = [" #", "\t#", " ;"].iter().filter_map(|c| value.find(c)).min();
    value[..end.unwrap_or(value.len())].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_on_over_indented_lines() {
        let text = "# c\n[tox]\nenvlist = py38, py39\n[testenv]\ndeps =\n    pytest  # it\n\n    # no\n    -r a.txt\ncommands: pytest {posargs}\nnonsense\n[open\nx=1";
        let ini = Ini::parse(text, 1);
        assert_eq!(
            ini.lines("testenv", "deps"),
            [(6, "pytest".to_owned()), (9, "-r a.txt".to_owned())]
        );
        assert_eq!(ini.value("testenv", "commands"), Some((10, "pytest {posargs}".to_owned())));
        assert_eq!(ini.value("open", "x"), Some((13, "1".to_owned())));
        assert!(ini.has("tox") && !ini.has("nox"));
    }
}
