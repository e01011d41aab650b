//! Addresses and times, as registries write them.

/// `segment` as one segment of an address's path (RFC 3986, 2.3).
pub(super) fn escape(segment: &str) -> String {
    let mut escaped = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    // A segment that is only dots would be resolved away.
    if escaped.bytes().all(|c| c == b'.') { escaped.replace('.', "%2E") } else { escaped }
}

/// `reference` as seen from the document at `base` (RFC 3986, 5.2), both of http or https.
pub(super) fn join(base: &str, reference: &str) -> String {
    if reference.contains("://") {
        return reference.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    if let Some(authority) = reference.strip_prefix("//") {
        return format!("{scheme}://{authority}");
    }
    let rest = rest.split(['?', '#']).next().expect("split yields at least one item");
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let path = match reference.starts_with('/') {
        true => reference.to_owned(),
        false => format!("{directory}/{reference}"),
    };
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    format!("{scheme}://{authority}/{}", segments.join("/"))
}

/// Seconds since the epoch of an RFC 3339 time.
pub(super) fn seconds(time: &str) -> Option<i64> {
    Some(time.parse::<jiff::Timestamp>().ok()?.as_second())
}

/// Replaces HTML's character references, of which only those that attributes need are known.
pub(super) fn unescape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let known =
            [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&#39;", '\'')];
        match known.into_iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, character)) => {
                out.push(character);
                rest = &rest[name.len()..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments() {
        assert_eq!(escape("@types/node"), "@types%2Fnode");
        assert_eq!(escape("1.0.0+é"), "1.0.0%2B%C3%A9");
        assert_eq!(escape(".."), "%2E%2E");
        assert_eq!(escape("a?b#c d"), "a%3Fb%23c%20d");
    }

    #[test]
    fn references() {
        let base = "https://h:1/simple/jinja2/";
        assert_eq!(join(base, "https://other/x"), "https://other/x");
        assert_eq!(join(base, "//other/x"), "https://other/x");
        assert_eq!(join(base, "/packages/x#s=1"), "https://h:1/packages/x#s=1");
        assert_eq!(join(base, "../../packages/x"), "https://h:1/packages/x");
        assert_eq!(join(base, "../../../../x"), "https://h:1/x");
        assert_eq!(join(base, "x"), "https://h:1/simple/jinja2/x");
        assert_eq!(join("https://h", "x"), "https://h/x");
    }

    #[test]
    fn times() {
        assert_eq!(seconds("2025-03-05T20:05:02.478302Z"), Some(1_741_205_102));
        assert_eq!(seconds("2024-09-05T00:40:51.026000+00:00"), Some(1_725_496_851));
        assert_eq!(seconds("yesterday"), None);
    }

    #[test]
    fn character_references() {
        assert_eq!(unescape_html("&gt;=3.7 &amp;&amp; &#39;x&unknown;"), ">=3.7 && 'x&unknown;");
    }
}
