//! What is said by names: projects (PEP 503), wheels (PEP 427), source distributions
//! (PEP 625, and what was usual before it).

/// A project's name in its normal form: lower case, runs of `-_.` as one `-`.
pub fn normalise(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.extend(c.to_lowercase()),
        }
    }
    normal
}

/// What a wheel's name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wheel {
    pub version: String,
    pub tags: Vec<String>,
}

/// Reads `{name}-{version}(-{build})?-{python}-{abi}-{platform}.whl`. Each of the last three
/// may hold several, separated by dots; the tags are all their combinations.
pub(super) fn wheel(filename: &str) -> Option<Wheel> {
    let parts: Vec<&str> = filename.strip_suffix(".whl")?.split('-').collect();
    let (version, [python, abi, platform]) = match parts.as_slice() {
        [_, version, tags @ ..] if tags.len() == 3 || tags.len() == 4 => {
            let last = tags.len() - 3;
            (version, [tags[last], tags[last + 1], tags[last + 2]])
        }
        _ => return None,
    };
    let mut tags = Vec::new();
    for python in python.split('.') {
        for abi in abi.split('.') {
            tags.extend(platform.split('.').map(|platform| format!("{python}-{abi}-{platform}")));
        }
    }
    Some(Wheel { version: (*version).to_owned(), tags })
}

/// The version in the name of a source distribution of `project` (in normal form). The
/// project's name in it may hold dashes of its own.
pub(super) fn sdist_version<'a>(filename: &'a str, project: &str) -> Option<&'a str> {
    let endings = [".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz", ".tar.Z", ".tar"];
    let stem = endings.iter().find_map(|ending| filename.strip_suffix(ending))?;
    stem.match_indices('-')
        .map(|(at, _)| (&stem[..at], &stem[at + 1..]))
        .find(|(name, _)| normalise(name) == project)
        .map(|(_, version)| version)
        .filter(|version| version.starts_with(|c: char| c.is_ascii_digit() || c == 'v'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects() {
        assert_eq!(normalise("Zope.Interface"), "zope-interface");
        assert_eq!(normalise("a__b--c"), "a-b-c");
    }

    #[test]
    fn wheels() {
        let plain = wheel("jinja2-3.1.6-py3-none-any.whl").expect("it is one");
        assert_eq!((plain.version.as_str(), plain.tags), ("3.1.6", vec!["py3-none-any".into()]));
        let built = wheel("x-1.0-2b-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl");
        let tags = ["cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_x86_64"]
            .map(Into::into);
        assert_eq!(built, Some(Wheel { version: "1.0".into(), tags: tags.into() }));
        assert_eq!(wheel("x-1.0.whl"), None);
        assert_eq!(wheel("x-1.0.tar.gz"), None);
    }

    #[test]
    fn source_distributions() {
        assert_eq!(sdist_version("jinja2-3.1.6.tar.gz", "jinja2"), Some("3.1.6"));
        assert_eq!(sdist_version("zope.interface-4.0.zip", "zope-interface"), Some("4.0"));
        assert_eq!(sdist_version("a-b-c-1.0-1.tar.gz", "a-b-c"), Some("1.0-1"));
        assert_eq!(sdist_version("a-b-1.0.tar.gz", "a"), None, "another project's");
        assert_eq!(sdist_version("a-1.0.exe", "a"), None);
    }
}
