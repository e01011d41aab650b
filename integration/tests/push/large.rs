//! Pushes that are too large to be shown, or to be compared.

use super::{COMMIT, Stage, Who};

#[test]
fn what_is_too_large_is_told_and_neither_compared_nor_counted_to_its_end() {
    let stage = Stage::new(Who::Ordinary);
    // Its user has all files compared as text.
    stage.outside(
        &stage.dir,
        "echo '* diff' > $HOME/text; git config --global core.attributesFile '~/text'",
    );
    let large = "yes 'a line that is not shown' | head -c 5000000 > large";
    let many = "for n in $(seq 30); do (echo $n; yes | head -c 2000000) > many-$n; done";
    let said = stage.agent(&format!(
        "{large} && git add -A && {COMMIT} large && git push origin HEAD:refs/heads/large; \
         {many}; git add -A && {COMMIT} many && git push origin HEAD:refs/heads/many; \
         yes | head -c 300000000 > message; git commit -q --allow-empty -F message; \
         git push origin HEAD:refs/heads/message; \
         yes | head -c 600000000 > message; git commit -q --amend --allow-empty -F message; \
         git push origin HEAD:refs/heads/larger"
    ));
    // Who takes it in has that much memory for no part of it.
    assert!(said.err.contains("over limit"), "{said:?}");
    let said = stage.approve(1, "n");
    for text in
        ["Binary files /dev/null and b/large differ", "Bin 0 -> 5000000 bytes", "All of it: git "]
    {
        assert!(said.out.contains(text), "{text}: {}", said.out);
    }
    assert!(!said.out.contains("a line that is not shown"), "{}", said.out);
    // Each of them is shown, and they are too much together.
    let said = stage.approve(2, "n");
    let more = said.out.lines().find(|line| line.contains("NOT SHOWN")).expect("said");
    assert!(more.starts_with("… and more than "), "{more}");
    // Of a commit git has the message in memory.
    let said = stage.approve(3, "y");
    assert!(said.code != 0 && said.out.contains("over limit"), "{said:?}");
    assert_eq!(stage.remote(), "refs/heads/main first\n");
}
