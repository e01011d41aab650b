//! Versions as Debian compares them: `[epoch:]upstream[-revision]`, deb-version(7).

use std::cmp::Ordering;

/// Orders two version strings. Never fails: what is not a version still has an order, as
/// with `dpkg --compare-versions`.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (split(a), split(b));
    (a.0.cmp(&b.0)).then_with(|| part(a.1, b.1)).then_with(|| part(a.2, b.2))
}

/// The upstream part without epoch, revision or what Debian appended to it, as other
/// tools write a version: `4:12.2.0-3` → `12.2.0`, `1.85.0+dfsg3-1~deb12u3` → `1.85.0`,
/// `3.15.0~rc1-1` → `3.15.0rc1`.
pub fn upstream(version: &str) -> String {
    let (_, upstream, _) = split(version);
    let end = upstream.find(['+', '-']).unwrap_or(upstream.len());
    let upstream = &upstream[..end];
    match upstream.split_once('~') {
        Some((release, pre)) if ["a", "b", "rc"].iter().any(|p| pre.starts_with(p)) => {
            format!("{release}{pre}")
        }
        Some((release, _)) => release.to_owned(),
        None => upstream.to_owned(),
    }
}

fn split(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    };
    match rest.rsplit_once('-') {
        Some((upstream, revision)) => (epoch, upstream, revision),
        // An absent revision is the same as "0".
        None => (epoch, rest, "0"),
    }
}

/// Weight of one character outside of digits: `~` before the end, the end before letters,
/// letters before everything else.
fn weight(c: Option<u8>) -> i32 {
    match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_digit() => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(c),
        Some(c) => i32::from(c) + 256,
    }
}

fn part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let text = |s: &[u8]| s.first().is_some_and(|c| !c.is_ascii_digit());
        while text(a) || text(b) {
            let order = weight(a.first().copied()).cmp(&weight(b.first().copied()));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default());
        }
        let (x, rest_a) = number(a);
        let (y, rest_b) = number(b);
        // Without leading zeros the longer number is the greater one.
        let order = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

fn number(s: &[u8]) -> (&[u8], &[u8]) {
    let end = s.iter().position(|c| !c.is_ascii_digit()).unwrap_or(s.len());
    let zeros = s[..end].iter().take_while(|c| **c == b'0').count();
    (&s[zeros..end], &s[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_dpkg_does() {
        let ascending = [
            "0.9~~",
            "0.9~rc1",
            "0.9",
            "0.9-1",
            "0.9-1+b1",
            "0.9a",
            "0.9+x",
            "0.9.1",
            "0.10",
            "1.0~deb12u3",
            "1.0",
            "1.0-1~bpo13+1",
            "1.0-1",
            "2.36-9+deb12u9",
            "2.36-9+deb12u14",
            "1:0.1",
            "2:0.0~",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} against {b}");
            }
        }
        assert_eq!(compare("1.0", "1.0-0"), Ordering::Equal);
        assert_eq!(compare("1.01", "1.1"), Ordering::Equal);
    }

    #[test]
    fn upstream_versions_are_what_the_makers_called_them() {
        for (debian, makers) in [
            ("4:12.2.0-3", "12.2.0"),
            ("1.85.0+dfsg3-1~deb12u3", "1.85.0"),
            ("3.11.2-6+deb12u8", "3.11.2"),
            ("3.15.0~rc1-1", "3.15.0rc1"),
            ("2.5~ds1-4", "2.5"),
            ("4.3-4.1", "4.3"),
        ] {
            assert_eq!(upstream(debian), makers);
        }
    }
}
