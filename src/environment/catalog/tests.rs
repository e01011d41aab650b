//! The catalogue that is built in, and what a user adds.

use super::*;

#[test]
fn the_built_in_catalogue_is_whole() {
    let catalog = Catalog::load(Path::new("/nonexistent/catalog.toml")).unwrap();
    for suite in catalog.suite.keys() {
        let (_, keys) = catalog.suite(suite).unwrap();
        assert!(keys.contains("BEGIN PGP PUBLIC KEY"), "{suite}");
    }
    for (name, pool) in &catalog.pool {
        for suite in pool.suites.iter().flatten() {
            assert!(catalog.suite.contains_key(suite), "pool {name}: {suite}");
        }
    }
    for (name, tool) in &catalog.tool {
        assert!(!tool.source.is_empty(), "{name}");
        for need in tool.needs.iter().chain(tool.suits.iter().map(|s| &s.tool)) {
            assert!(catalog.tool.contains_key(need), "{name} needs {need}");
        }
        for source in &tool.source {
            assert_eq!(source.provider == Provider::Debian, source.pool.is_some(), "{name}");
            assert_eq!(source.provider == Provider::Nix, source.channel.is_some(), "{name}");
            if let Some(channel) = &source.channel {
                let channel = catalog.channel(channel).unwrap();
                assert!(!channel.keys.is_empty());
                assert!(source.bins.iter().all(|(_, bin)| match bin {
                    BinEntry::Path(path) => path.starts_with("{out}/"),
                    BinEntry::Full(bin) => bin.path.starts_with("{out}/"),
                }));
            }
            let indexed = source.index.is_some() && source.address.is_some();
            assert_eq!(source.provider == Provider::Upstream, indexed, "{name}");
            if let Some(pool) = &source.pool {
                let pool = catalog.pool(pool).unwrap();
                assert!(source.suite.iter().all(|s| pool.suites.iter().flatten().any(|p| p == s)));
            }
        }
    }
}

#[test]
fn what_serves_can_be_run() {
    let catalog = Catalog::load(Path::new("/nonexistent/catalog.toml")).unwrap();
    for (name, service) in &catalog.service {
        let tool = catalog.tool.get(&service.tool).unwrap_or_else(|| panic!("{name}: no tool"));
        let programs = service.make.iter().map(|make| &make.run).chain([&service.start]);
        for program in programs.map(|argv| &argv[0]) {
            let brings = |source: &Source| source.bins.contains_key(program);
            assert!(tool.source.iter().all(brings), "{name}: {program}");
        }
        for text in [&service.check.send, &service.check.expect] {
            assert!(Check::bytes(text).is_some(), "{name}: {text}");
        }
        assert!(!Check::bytes(&service.check.expect).unwrap().is_empty(), "{name}");
    }
}

#[test]
fn a_line_is_what_keeps_its_promises() {
    let catalog = Catalog::load(Path::new("/nonexistent/catalog.toml")).unwrap();
    for (tool, version, line) in [
        ("node", "22.19.0", "22"),
        ("python", "3.13.1", "3.13"),
        ("uv", "0.5.11", "0.5"),
        ("uv", "0.0.7", "0.0.7"),
        ("python", "5", "5"),
    ] {
        let version = Version::parse(version).unwrap();
        assert_eq!(catalog.line_of(tool, &version).to_string(), line);
    }
}

#[test]
fn names_are_read_as_the_whole_is() {
    let catalog = Catalog::load(Path::new("/nonexistent/catalog.toml")).unwrap();
    assert_eq!(names(), catalog.tool.into_keys().collect());
}

#[test]
fn the_user_adds_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.toml");
    let text = "version = 1\n[tool.hello]\n[[tool.hello.source]]\nprovider = \"npm\"\n\
                package = \"hello\"\nbins = { hello = \"hello.js\" }\n";
    std::fs::write(&path, text).unwrap();
    let catalog = Catalog::load(&path).unwrap();
    assert!(catalog.tool.contains_key("hello") && catalog.tool.contains_key("node"));
    assert_eq!(catalog.nearest("nod"), ["node"]);
    std::fs::write(&path, "version = 1\n[tool.x]\nsurce = []\n").unwrap();
    let e = Catalog::load(&path).unwrap_err().to_string();
    assert!(e.contains("surce"), "{e}");
}
