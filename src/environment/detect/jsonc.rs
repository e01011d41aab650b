//! JSON with comments, and with commas before closing brackets, made plain JSON of the same
//! lines.

/// `text` without them; what is between quotes stays as it is.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    // Where in `out` a comma stands after which nothing but space has come.
    let mut comma: Option<usize> = None;
    while let Some(c) = chars.next() {
        if quoted {
            out.push(c);
            match c {
                '\\' => out.extend(chars.next()),
                '"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match (c, chars.peek()) {
            ('/', Some('/')) => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            ('/', Some('*')) => {
                chars.next();
                let mut star = false;
                for c in chars.by_ref() {
                    // The lines stay what they are.
                    out.extend((c == '\n').then_some('\n'));
                    if star && c == '/' {
                        break;
                    }
                    star = c == '*';
                }
            }
            (c, _) => {
                if let Some(at) = comma.take_if(|_| !c.is_whitespace())
                    && matches!(c, ']' | '}')
                {
                    out.replace_range(at..=at, " ");
                }
                if c == ',' {
                    comma = Some(out.len());
                }
                quoted = c == '"';
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_commas() {
        let text = "{ // a\n \"b//\": \"/* \\\" , }\", /* c\n */ \"d\": [1, 2, // e\n ],\n}";
        assert_eq!(plain(text), "{ \n \"b//\": \"/* \\\" , }\", \n \"d\": [1, 2  \n ] \n}");
        assert_eq!(plain("\"\\"), "\"\\");
        assert_eq!(plain("/*"), "");
    }
}
