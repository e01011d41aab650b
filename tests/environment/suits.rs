//! A tool that goes with another: as far as what is asked for leaves a choice.

use super::{asked, lock_of, x_and_y};
use crate::support::NOW;

#[test]
fn what_is_asked_for_narrows_what_goes_together() {
    let (_files, _server, _machine, ctx) = x_and_y();
    let y_with_x_1 = |constraint: &str| {
        let wanted = vec![asked("x", "1"), asked("y", constraint)];
        let lock = lock_of(&ctx, wanted, NOW).expect("there is one");
        lock.tools.iter().find(|t| t.name == "y").expect("it was asked for").version.clone()
    };
    assert_eq!(y_with_x_1("*"), "5.1.0");
    assert_eq!(y_with_x_1("<6 || >=7"), "5.1.0", "an exclusion is no wish for another");
    assert_eq!(y_with_x_1("=5.0.0"), "5.0.0");
    assert_eq!(y_with_x_1("6"), "6.0.0", "what the project asks for comes first");
}
