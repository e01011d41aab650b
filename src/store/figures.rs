//! What contents are made of, and how much of them a store shares.
//!
//! Three classes, for their files are kept in three ways: *small* ones, below
//! [`WHOLE_BELOW`], are one record whatever they hold; larger ones are cut, *text* (no NUL
//! near the beginning) finer than *binary*.

use std::ops::{Add, AddAssign};

use serde::Serialize;

use super::format::content::{Parameters, TEXT, WHOLE_BELOW};

/// How the content of a file is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Cut as text is.
    Text,
    /// Cut as all else is.
    Binary,
    /// In one piece.
    Small,
}

impl Class {
    /// The class of a file with so many bytes, which begins with `head`.
    pub fn of(size: u64, head: &[u8]) -> Class {
        match size < WHOLE_BELOW {
            true => Class::Small,
            false if Parameters::for_file(head) == TEXT => Class::Text,
            false => Class::Binary,
        }
    }
}

/// Of some files: how many, and what is in them. Files that are one inode count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The chunks that they are cut into; a small file is one, an empty one has none.
    pub chunks: u64,
    /// Different chunks.
    pub unique: u64,
    /// Bytes of those.
    pub unique_bytes: u64,
    /// Files whose content neither the store had nor a file before them.
    pub new_files: u64,
    /// Bytes of chunks that the store did not have, each once.
    pub new_bytes: u64,
}

impl Counts {
    /// Percent of the files whose whole content was there already.
    pub fn reused_by_file(&self) -> f64 {
        percent(self.files - self.new_files, self.files)
    }

    /// Percent of the bytes that were there already, in the store or in these files.
    pub fn reused_by_byte(&self) -> f64 {
        percent(self.bytes - self.new_bytes, self.bytes)
    }
}

/// Of nothing, all is there.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.chunks += other.chunks;
        self.unique += other.unique;
        self.unique_bytes += other.unique_bytes;
        self.new_files += other.new_files;
        self.new_bytes += other.new_bytes;
    }
}

/// The counts of each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Figures {
    /// Larger files without NUL near their beginning.
    pub text: Counts,
    /// Other larger files.
    pub binary: Counts,
    /// Files in one piece.
    pub small: Counts,
    /// Of the new bytes, those that are kept as the difference from a former version.
    pub delta_bytes: u64,
    /// What is stored of those differences.
    pub delta_stored: u64,
}

impl Figures {
    /// The counts of one class.
    pub fn of(&mut self, class: Class) -> &mut Counts {
        match class {
            Class::Text => &mut self.text,
            Class::Binary => &mut self.binary,
            Class::Small => &mut self.small,
        }
    }

    /// The counts of all classes together.
    pub fn total(&self) -> Counts {
        let mut total = self.text;
        total += self.binary;
        total += self.small;
        total
    }
}

impl Add for Figures {
    type Output = Figures;

    fn add(mut self, other: Figures) -> Figures {
        self.text += other.text;
        self.binary += other.binary;
        self.small += other.small;
        self.delta_bytes += other.delta_bytes;
        self.delta_stored += other.delta_stored;
        self
    }
}
