//! What strangers wrote, as it may reach a terminal.

/// Somebody else's lines, of which a terminal obeys nothing, and all are as they look.
pub fn printable(text: &str) -> String {
    let odd = |c: char| is_odd(c) && c != '\n' && c != '\t';
    text.chars().map(|c| if odd(c) { '?' } else { c }).collect()
}

/// Whether it controls a terminal, or is not seen.
pub fn is_odd(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// What Unicode calls a format: it has no look of its own, and may change that of other text, as the
/// order of its letters.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
        | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_does_not_show_is_seen() {
        assert_eq!(printable("a\u{1b}[2J\r\u{9b}b\u{7f}\tc\n"), "a?[2J??b?\tc\n");
        let ends = "\u{ad}\u{600}\u{605}\u{61c}\u{180e}\u{200b}\u{200f}\u{202a}\u{202e}\u{2060}\u{2064}\
                    \u{2066}\u{206f}\u{feff}\u{fff9}\u{fffb}\u{e0000}\u{e007f}";
        assert_eq!(printable(ends), "?".repeat(ends.chars().count()));
        let plain = "é ß 漢字 עברית العربية 🦀 ‐–—‘’“”•… \u{a0}";
        assert_eq!(printable(plain), plain);
    }
}
