//! `[secrets]`: what a project's app needs, and how.

use toml_edit::{InlineTable, Item, Key, TableLike, Value};

use super::{Reader, Spec, SpecError, Wish, is_variable};

/// The fields of a wish; for whom it is, only the secret's holder says.
const FIELDS: [&str; 7] = ["host", "header", "format", "method", "path", "raw", "file"];
const ALLOWED: &str = "host, header, format, method, path, raw, file";

impl Reader<'_> {
    pub(super) fn secrets(&self, table: &dyn TableLike, spec: &mut Spec) -> Result<(), SpecError> {
        for (name, item) in table.iter() {
            self.name(table, name, is_variable(name), "a secret")?;
            let key = format!("secrets.{name}");
            let fields = item.as_table_like();
            let fields = fields.ok_or_else(|| {
                self.kind(key.clone(), item, "a table: how the app gets it, and never its value")
            })?;
            let mut wish = Wish::new();
            for (field, item) in fields.iter() {
                let span = fields.key(field).and_then(Key::span);
                if !FIELDS.contains(&field) {
                    return Err(self.unknown(field, span, "a secret", ALLOWED));
                }
                wish.insert(field.to_owned(), self.wished(&format!("{key}.{field}"), field, item)?);
            }
            spec.secrets.insert(name.to_owned(), wish);
        }
        Ok(())
    }

    /// A text, of methods also several; of `raw`, that it is.
    fn wished(&self, key: &str, field: &str, item: &Item) -> Result<Vec<String>, SpecError> {
        if field == "raw" {
            return match item.as_bool() {
                Some(true) => Ok(vec!["true".to_owned()]),
                _ => Err(self.kind(key.to_owned(), item, "`true`, or be left out")),
            };
        }
        let several = item.as_array().filter(|_| field == "method");
        let texts = match several {
            Some(all) => all.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
            None => item.as_str().map(|text| vec![text.to_owned()]),
        };
        texts.ok_or_else(|| self.kind(key.to_owned(), item, "a string"))
    }
}

/// As it stands in the file.
pub(super) fn render(wish: &Wish) -> String {
    let mut table = InlineTable::new();
    for (field, values) in wish {
        let value = match values.as_slice() {
            _ if field == "raw" => Value::from(true),
            [one] => Value::from(one),
            all => Value::Array(all.iter().collect()),
        };
        table.insert(field, value);
    }
    table.to_string().trim().to_owned()
}
