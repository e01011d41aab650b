//! Why an archive was not unpacked.

use std::io;
use std::path::PathBuf;

/// Why an archive was not unpacked. `archive` is always its path.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive cannot be opened.
    #[error("cannot open the archive `{path}`: {source}")]
    Open {
        /// The archive.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It is no archive of its kind, or it is damaged.
    #[error("cannot read the archive `{archive}`: {source}")]
    Damaged {
        /// The archive.
        archive: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// It is packed in a way that this zagi does not know.
    #[error("the archive `{archive}` cannot be unpacked: {what} is not supported")]
    Unsupported {
        /// The archive.
        archive: PathBuf,
        /// What it holds.
        what: String,
    },
    /// A member could not be written.
    #[error("cannot unpack to `{path}`: {source}")]
    Write {
        /// What was being written.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A member's name leads out of the destination.
    #[error("the archive `{archive}` is hostile: its member `{name}` climbs out")]
    Climbs {
        /// The archive.
        archive: PathBuf,
        /// The member.
        name: String,
    },
    /// A link's target leads out of the destination, or is nothing that was unpacked.
    #[error("the archive `{archive}` is hostile: its link `{name}` leads out, to `{target}`")]
    LinkClimbs {
        /// The archive.
        archive: PathBuf,
        /// The link.
        name: String,
        /// Where it leads.
        target: String,
    },
    /// A hard link to what is no file of the archive.
    #[error(
        "the archive `{archive}` is damaged: its hard link `{name}` is to `{target}`, which is no file in it"
    )]
    HardLink {
        /// The archive.
        archive: PathBuf,
        /// The link.
        name: String,
        /// What it should be the same as.
        target: String,
    },
    /// A member would be written through a link.
    #[error(
        "the archive `{archive}` is hostile: its member `{name}` goes through the link `{link}`"
    )]
    ThroughLink {
        /// The archive.
        archive: PathBuf,
        /// The member.
        name: String,
        /// The link on its way.
        link: PathBuf,
    },
    /// A member is both a directory and something else.
    #[error("the archive `{archive}` has a directory and something else at `{name}`")]
    Conflict {
        /// The archive.
        archive: PathBuf,
        /// The member.
        name: String,
    },
    /// A device, pipe or socket.
    #[error("the archive `{archive}` is hostile: its member `{name}` is a device or pipe")]
    Special {
        /// The archive.
        archive: PathBuf,
        /// The member.
        name: String,
    },
    /// It unpacks to more bytes than it may.
    #[error("the archive `{archive}` unpacks to more than {limit} bytes")]
    TooLarge {
        /// The archive.
        archive: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// It has more members than it may.
    #[error("the archive `{archive}` has more than {limit} members")]
    TooMany {
        /// The archive.
        archive: PathBuf,
        /// The bound.
        limit: u64,
    },
}
