//! What somebody may have meant.

/// Of `known`, each with the text that is compared, those nearest to `name`: at most three, and
/// none of which half the letters are others.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = (String, &'a str)>) -> Vec<String> {
    let mut near: Vec<(usize, &str)> = known
        .map(|(text, known)| (distance(&text, name), known))
        .filter(|(d, _)| *d <= name.len().max(3) / 2)
        .collect();
    near.sort();
    near.into_iter().take(3).map(|(_, known)| known.to_owned()).collect()
}

/// The end of an error about a name that is not there.
pub fn perhaps(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; there is {}", names.join(", ")),
    }
}

/// How many letters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("node", "node"), 0);
        assert_eq!(distance("nodejs", "node"), 2);
        assert_eq!(distance("pyton", "python"), 1);
    }
}
