//! Changes to the text of an `env.toml`. What is not changed stays as it was written: comments,
//! order and spacing.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use super::spec::{Spec, SpecError};
use super::version::Constraint;

/// Where system packages are asked for.
const SYSTEM: (&str, &str) = ("system", "packages");
/// Where packages of Python's are.
const PYTHON: (&str, &str) = ("dependencies", "python");

/// A table of `env.toml` whose entries are asked for in versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `[tools]`.
    Tools,
    /// `[services]`.
    Services,
}

impl Section {
    /// The table's name.
    pub fn name(self) -> &'static str {
        match self {
            Section::Tools => "tools",
            Section::Services => "services",
        }
    }
}

/// The text in which `name` is asked for in the versions of `constraint`. `file` is the
/// text's name in errors. What else is said of a service stays.
pub fn set(
    file: &str,
    text: &str,
    section: Section,
    name: &str,
    constraint: &Constraint,
) -> Result<String, SpecError> {
    let mut document = parsed(file, text)?;
    let table = document.entry(section.name()).or_insert_with(|| Item::Table(Table::new()));
    if let Some(table) = table.as_table_like_mut() {
        let detailed = table.get(name).is_some_and(Item::is_table_like);
        match table.get_mut(name).filter(|_| detailed).and_then(Item::as_table_like_mut) {
            Some(service) => put(service, "version", constraint),
            None => put(table, name, constraint),
        }
    }
    let edited = document.to_string();
    // A name that nothing can have is found here.
    Spec::parse(file, &edited)?;
    Ok(edited)
}

fn put(table: &mut dyn TableLike, key: &str, constraint: &Constraint) {
    let mut value = Value::from(constraint.to_string());
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(before) => {
            *value.decor_mut() = before.decor().clone();
            *before = value;
        }
        None => drop(table.insert(key, Item::Value(value))),
    }
}

/// The text in which `name` is not asked for; `None` where it was not.
pub fn remove(
    file: &str,
    text: &str,
    section: Section,
    name: &str,
) -> Result<Option<String>, SpecError> {
    let mut document = parsed(file, text)?;
    let table = document.get_mut(section.name()).and_then(Item::as_table_like_mut);
    let removed = table.is_some_and(|table: &mut dyn TableLike| table.remove(name).is_some());
    Ok(removed.then(|| document.to_string()))
}

/// The text in which the system package `name` is asked for.
pub fn add_system(file: &str, text: &str, name: &str) -> Result<String, SpecError> {
    add_to(file, text, SYSTEM, name)
}

/// The text in which the package `name` of Python's is asked for.
pub fn add_python(file: &str, text: &str, name: &str) -> Result<String, SpecError> {
    add_to(file, text, PYTHON, name)
}

fn add_to(
    file: &str,
    text: &str,
    (table, key): (&str, &str),
    name: &str,
) -> Result<String, SpecError> {
    let mut document = parsed(file, text)?;
    let table = document.entry(table).or_insert_with(|| Item::Table(Table::new()));
    if let Some(table) = table.as_table_like_mut() {
        let packages = table.entry(key).or_insert_with(|| Item::Value(Array::new().into()));
        if let Some(packages) = packages.as_array_mut()
            && !packages.iter().any(|package| package.as_str() == Some(name))
        {
            packages.push(name);
        }
    }
    let edited = document.to_string();
    Spec::parse(file, &edited)?;
    Ok(edited)
}

/// The text in which a comment says why `name` is asked for: behind a tool, and on a line before
/// one of the packages of [`SYSTEM`] or [`PYTHON`]. A tool that has a comment keeps its own.
pub fn explain(file: &str, text: &str, name: &str, why: &str) -> Result<String, SpecError> {
    let mut document = parsed(file, text)?;
    let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let tools = document.get_mut("tools").and_then(Item::as_table_like_mut);
    let tool = tools.and_then(|tools| tools.get_mut(name)).and_then(Item::as_value_mut);
    if let Some(tool) = tool {
        let has = tool.decor().suffix().and_then(|suffix| suffix.as_str());
        if has.is_none_or(|suffix| suffix.trim().is_empty()) {
            tool.decor_mut().set_suffix(format!(" # {why}"));
        }
    }
    for (table, key) in [SYSTEM, PYTHON] {
        let packages = document.get_mut(table).and_then(Item::as_table_like_mut);
        let packages = packages.and_then(|table| table.get_mut(key)?.as_array_mut());
        let Some(packages) = packages else { continue };
        let Some(at) = packages.iter().position(|p| p.as_str() == Some(name)) else { continue };
        if let Some(package) = packages.get_mut(at) {
            package.decor_mut().set_prefix(format!("\n    # {why}\n    "));
            packages.set_trailing_comma(true);
            packages.set_trailing("\n");
        }
    }
    Ok(document.to_string())
}

/// The text in which no system package that `is_it` says is one is asked for; `None` where none
/// was.
pub fn remove_system(
    file: &str,
    text: &str,
    is_it: impl Fn(&str) -> bool,
) -> Result<Option<String>, SpecError> {
    let mut document = parsed(file, text)?;
    let system = document.get_mut("system").and_then(Item::as_table_like_mut);
    let packages = system.and_then(|system| system.get_mut("packages")?.as_array_mut());
    let Some(packages) = packages else { return Ok(None) };
    let before = packages.len();
    packages.retain(|package| !package.as_str().is_some_and(&is_it));
    if packages.len() == before {
        return Ok(None);
    }
    // The space in front of one that was not the first; a line of its own stays.
    if let Some(first) = packages.get_mut(0)
        && first.decor().prefix().and_then(|space| space.as_str()) == Some(" ")
    {
        first.decor_mut().set_prefix("");
    }
    if packages.is_empty() {
        document.remove("system");
    } else if let Some(first) = packages.get_mut(0)
        && first.decor().prefix().and_then(|prefix| prefix.as_str()) == Some(" ")
    {
        // The space that stood behind a comma.
        first.decor_mut().set_prefix("");
    }
    Ok(Some(document.to_string()))
}

fn parsed(file: &str, text: &str) -> Result<DocumentMut, SpecError> {
    Spec::parse(file, text)?;
    Ok(text.parse().expect("what is a specification is TOML"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# ours\n[tools]\nzig = \"0.13\"   # the last that builds\n# see 12\nnode = \"20\" # CI\n\n\
                        [run] # by hand\ntest = 'make  test'\n";

    fn constraint(text: &str) -> Constraint {
        Constraint::parse(text).unwrap()
    }

    fn set_tool(
        file: &str,
        text: &str,
        tool: &str,
        constraint: &Constraint,
    ) -> Result<String, SpecError> {
        set(file, text, Section::Tools, tool, constraint)
    }

    fn remove_tool(file: &str, text: &str, tool: &str) -> Result<Option<String>, SpecError> {
        remove(file, text, Section::Tools, tool)
    }

    #[test]
    fn what_else_is_said_of_a_service_stays() {
        let set = |text| set("f", text, Section::Services, "redis", &constraint("7")).unwrap();
        assert_eq!(set(""), "[services]\nredis = \"7\"\n");
        let text = "[services]\nredis = { port = 6380, version = '6' } # ours\n";
        assert_eq!(set(text), text.replace("'6'", "\"7\""));
        let text = "[services.redis]\nport = 6380\n";
        assert_eq!(set(text), format!("{text}version = \"7\"\n"));
        let gone = remove("f", text, Section::Services, "redis").unwrap().unwrap();
        assert_eq!(Spec::parse("f", &gone).unwrap(), Spec::default());
    }

    #[test]
    fn nothing_else_changes() {
        let set = |tool, to| set_tool("f", TEXT, tool, &constraint(to)).unwrap();
        assert_eq!(set("node", "22"), TEXT.replace("\"20\"", "\"22\""));
        let added = set("go", ">=1.22");
        assert_eq!(added, TEXT.replace("# CI\n", "# CI\ngo = \">=1.22\"\n"));
        assert_eq!(remove_tool("f", &added, "go").unwrap().as_deref(), Some(TEXT));
        let gone = remove_tool("f", TEXT, "zig").unwrap().unwrap();
        assert_eq!(gone, TEXT.replace("zig = \"0.13\"   # the last that builds\n", ""));
        assert_eq!(remove_tool("f", TEXT, "rust").unwrap(), None);
    }

    #[test]
    fn system_packages_come_and_go() {
        let one = add_system("f", TEXT, "libpq").unwrap();
        assert_eq!(one, format!("{TEXT}\n[system]\npackages = [\"libpq\"]\n"));
        let two = add_system("f", &one.replace("\"]\n", "\"] # ours\n"), "vips").unwrap();
        assert!(two.ends_with("packages = [\"libpq\", \"vips\"] # ours\n"), "{two}");
        assert_eq!(add_system("f", &two, "vips").unwrap(), two);
        let remove = |text: &str, name: &str| remove_system("f", text, |n| n == name).unwrap();
        assert_eq!(remove(&two, "curl"), None);
        let less = remove(&two, "libpq").unwrap();
        assert!(less.contains("packages = [\"vips\"] # ours\n"), "{less}");
        assert!(!remove(&less, "vips").unwrap().contains("system"));
    }

    #[test]
    fn what_is_asked_for_has_its_reason() {
        let text = add_system("f", "", "libpq").unwrap();
        let text = explain("f", &text, "libpq", "libpq-fe.h was missing").unwrap();
        let one = "[system]\npackages = [\n    # libpq-fe.h was missing\n    \"libpq\",\n]\n";
        assert_eq!(text, one);
        let text = add_system("f", &text, "zlib").unwrap();
        let text = explain("f", &text, "zlib", "zlib.h was\nmissing").unwrap();
        assert_eq!(text, one.replace(",\n]\n", ",\n    # zlib.h was missing\n    \"zlib\",\n]\n"));
        assert_eq!(Spec::parse("f", &text).unwrap().system, ["libpq", "zlib"]);
        let less = remove_system("f", &text, |name| name == "zlib").unwrap().unwrap();
        assert_eq!(Spec::parse("f", &less).unwrap().system, ["libpq"]);
        let text =
            set_tool("f", &add_python("f", "", "PyYAML").unwrap(), "go", &constraint("1")).unwrap();
        let text = explain("f", &text, "go", "the command go was missing").unwrap();
        assert!(text.contains("go = \"1\" # the command go was missing\n"), "{text}");
        assert_eq!(explain("f", &text, "go", "another").unwrap(), text);
        assert_eq!(Spec::parse("f", &text).unwrap().dependencies.python, ["PyYAML"]);
        assert!(add_python("f", "", "--index-url=x").is_err());
    }

    #[test]
    fn a_file_that_is_not_there_begins() {
        let text = set_tool("f", "", "node", &constraint("22")).unwrap();
        assert_eq!(text, "[tools]\nnode = \"22\"\n");
        assert_eq!(remove_tool("f", "", "node").unwrap(), None);
        let inline =
            set_tool("f", "tools = { zig = '0.13' }\n", "node", &constraint("22")).unwrap();
        assert_eq!(Spec::parse("f", &inline).unwrap().tools.len(), 2, "{inline}");
    }

    #[test]
    fn what_cannot_be_read_or_named_is_refused() {
        let any = Constraint::any();
        for (text, tool) in [("[tools", "node"), ("tool = 1", "node"), ("", "a b"), ("", "")] {
            assert!(set_tool("f", text, tool, &any).is_err(), "{text} {tool}");
        }
        assert!(remove_tool("f", "[tools", "node").is_err());
    }
}
