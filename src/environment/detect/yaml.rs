//! YAML, with the line of every value: CI workflows, compose files.
//!
//! Of a stream the first document is read. Scalars are texts, whatever type they would have.
//! An alias is a copy, and a merge key (`<<`) is looked through; copies count against
//! [`MOST_NODES`], so aliases of aliases are refused rather than spelled out.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

/// A document of more bytes is refused.
const LARGEST: usize = 1 << 20;
/// A document of more values, copies included, is refused.
const MOST_NODES: usize = 40_000;
/// A document that is nested deeper is refused.
const DEEPEST: usize = 64;

/// One value.
#[derive(Debug, Clone)]
pub(super) struct Yaml {
    /// Its line, from 1.
    pub line: u32,
    value: Value,
    /// How many values it is, itself included.
    size: usize,
}

#[derive(Debug, Clone)]
enum Value {
    Scalar(String),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
}

/// Why a text is not read.
#[derive(Debug)]
pub(super) struct Bad {
    pub line: u32,
    pub problem: String,
}

impl Yaml {
    /// The text of a scalar.
    pub fn str(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The values of a list; a value that is no list is the only one of its own.
    pub fn items(&self) -> &[Yaml] {
        match &self.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// The keys and values of a map; of anything else none. Merge keys are among them.
    pub fn entries(&self) -> &[(String, Yaml)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value at `key`, its own or merged in.
    pub fn get(&self, key: &str) -> Option<&Yaml> {
        let own = self.entries().iter().find(|(name, _)| name == key).map(|(_, value)| value);
        own.or_else(|| {
            let merged = self.entries().iter().filter(|(name, _)| name == "<<");
            merged.flat_map(|(_, value)| value.items()).find_map(|value| value.get(key))
        })
    }

    /// Calls `see` with every key and its value, however deep, in the order of the text.
    pub fn visit<'y>(&'y self, see: &mut impl FnMut(&'y str, &'y Yaml)) {
        match &self.value {
            Value::Scalar(_) => {}
            Value::List(items) => items.iter().for_each(|item| item.visit(see)),
            Value::Map(entries) => {
                for (key, value) in entries {
                    see(key, value);
                    value.visit(see);
                }
            }
        }
    }
}

/// A list or map that has begun.
struct Open {
    anchor: usize,
    line: u32,
    value: Value,
    key: Option<String>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Yaml>,
    nodes: usize,
    whole: Option<Yaml>,
}

/// Reads the first document of `text`.
pub(super) fn parse(text: &str) -> Result<Yaml, Bad> {
    if text.len() > LARGEST {
        return Err(bad(1, "it is larger than 1 MB"));
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| bad(number(e.marker().line()), e.info()))?;
        let line = number(span.start.line());
        builder.take(event, line).map_err(|problem| bad(line, problem))?;
        if let Some(whole) = builder.whole.take() {
            return Ok(whole);
        }
    }
    Ok(Yaml { line: 1, value: Value::Scalar(String::new()), size: 1 })
}

fn number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX).max(1)
}

fn bad(line: u32, problem: &str) -> Bad {
    Bad { line, problem: problem.to_owned() }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: u32) -> Result<(), &'static str> {
        match event {
            Event::Scalar(text, _, anchor, _) => {
                let value = Value::Scalar(text.into_owned());
                self.put(Yaml { line, value, size: 1 }, anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(value) if self.nodes + value.size > MOST_NODES => {
                    Err("it has too many values")
                }
                Some(value) => {
                    let value = value.clone();
                    self.put(value, 0)
                }
                None => Err("an alias of what is not there"),
            },
            Event::SequenceStart(anchor, _) => self.begin(anchor, line, Value::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(anchor, line, Value::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { anchor, line, value, .. }) = self.open.pop() else {
                    return Err("an end without a beginning");
                };
                let size = match &value {
                    Value::Scalar(_) => 1,
                    Value::List(items) => 1 + items.iter().map(|item| item.size).sum::<usize>(),
                    Value::Map(all) => 1 + all.iter().map(|(_, value)| value.size).sum::<usize>(),
                };
                // What is in it has been counted.
                self.nodes -= size - 1;
                self.put(Yaml { line, value, size }, anchor)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, line: u32, value: Value) -> Result<(), &'static str> {
        if self.open.len() == DEEPEST {
            return Err("it is nested too deep");
        }
        self.open.push(Open { anchor, line, value, key: None });
        Ok(())
    }

    fn put(&mut self, yaml: Yaml, anchor: usize) -> Result<(), &'static str> {
        self.nodes += yaml.size;
        if self.nodes > MOST_NODES {
            return Err("it has too many values");
        }
        if anchor != 0 {
            self.anchors.insert(anchor, yaml.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.whole = Some(yaml);
            return Ok(());
        };
        match &mut open.value {
            Value::List(items) => items.push(yaml),
            Value::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, yaml)),
                // A key that is no scalar is a key that nobody asks for.
                None => open.key = Some(yaml.str().unwrap_or_default().to_owned()),
            },
            Value::Scalar(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_lines_and_anchors_are_followed() {
        let text = "x: &base\n  image: a:1\n  list: [1, two]\njobs:\n  - <<: *base\n    image: b:2\n  - *base\n";
        let yaml = parse(text).unwrap();
        let jobs = yaml.get("jobs").unwrap().items();
        let image = jobs[0].get("image").unwrap();
        assert_eq!((image.str(), image.line), (Some("b:2"), 6));
        let list: Vec<_> = jobs[0].get("list").unwrap().items().iter().map(Yaml::str).collect();
        assert_eq!(list, [Some("1"), Some("two")]);
        let image = jobs[1].get("image").unwrap();
        assert_eq!((image.str(), image.line), (Some("a:1"), 2));
        let mut keys = Vec::new();
        yaml.visit(&mut |key, _| keys.push(key));
        assert_eq!(keys[..4], ["x", "image", "list", "jobs"]);
    }

    #[test]
    fn what_would_grow_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let one = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![one; 10].join(", ")));
        }
        assert_eq!(parse(&bomb).unwrap_err().problem, "it has too many values");
        assert!(parse(&"- ".repeat(100_000)).is_err());
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse("a: *gone\n").is_err());
        assert_eq!(parse("a: [\nb: ]]").unwrap_err().line, 2);
        assert!(parse("").unwrap().entries().is_empty());
    }
}
