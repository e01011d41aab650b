//! What people call trees: an id, the first digits of one, or the name of a ref.

use super::Store;
use super::error::StoreError;
use super::format::{RecordId, TreeId};
use super::snapshot::ref_meant;

/// Fewer digits than these are no abbreviation.
const FEWEST: usize = 6;
/// An ambiguous abbreviation names this many.
const NAMED: usize = 8;

impl Store {
    /// The tree that `text` means: a ref of that name; or the tree whose id it is, or begins
    /// with it, of 6 hexadecimal digits or more, and no other tree's in the store.
    pub fn resolve(&self, text: &str) -> Result<TreeId, StoreError> {
        let unknown = || StoreError::UnknownTree { text: text.chars().take(200).collect() };
        match self.get_ref(&ref_meant(text)) {
            Ok(Some(tree)) => return Ok(tree),
            Ok(None) | Err(StoreError::RefName { .. }) => {}
            Err(e) => return Err(e),
        }
        let digits = text.to_ascii_lowercase();
        if !(FEWEST..=64).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit())
        {
            return Err(unknown());
        }
        let bound = |fill: char| {
            let filled = format!("{digits}{}", fill.to_string().repeat(64 - digits.len()));
            filled.parse::<TreeId>().map_err(|_| unknown())
        };
        let (first, last) = (RecordId::tree(&bound('0')?), RecordId::tree(&bound('f')?));
        let found = self.inner.objects.between(&first, &last, NAMED)?;
        let trees: Vec<TreeId> = found.iter().map(|found| TreeId::from_bytes(found.id)).collect();
        match trees[..] {
            [tree] => Ok(tree),
            [] => Err(unknown()),
            _ => Err(StoreError::AmbiguousTree { text: digits, trees }),
        }
    }
}
