//! POSIX access control lists (acl(5)), as extended attributes hold them.
//!
//! The kernel checks the lists; whoever stores them keeps them and the nine permission bits of
//! the mode in agreement, and gives new files what their directory's default list says. The
//! rules are those of POSIX.1e draft 17, section 23; the bytes those of
//! `linux/posix_acl_xattr.h`: a `u32` version ([`VERSION`]), then for each entry a `u16` tag, a
//! `u16` of permissions and a `u32` with the user or group it is for, all little-endian. Entries
//! are in the order of their tags.

use nix::errno::Errno;

/// The attribute that holds who may do what with a file.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that holds what is made in a directory begins with.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_LEN: usize = 8;
/// The id of entries that are for nobody in particular.
const NOBODY: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Owner,
    User,
    OwningGroup,
    Group,
    Mask,
    Other,
}

/// Each tag with its number. Their order is the one that lists must have.
const TAGS: [(u16, Tag); 6] = [
    (0x01, Tag::Owner),
    (0x02, Tag::User),
    (0x04, Tag::OwningGroup),
    (0x08, Tag::Group),
    (0x10, Tag::Mask),
    (0x20, Tag::Other),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    /// `rwx`, as the lowest bits of a mode.
    perm: u16,
    id: u32,
}

/// A valid list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

impl Acl {
    /// The list in the value of an attribute; `None` if it has no entries, which means to have
    /// no list. EINVAL if it is not a valid one, EOPNOTSUPP if its version is another.
    pub fn parse(bytes: &[u8]) -> Result<Option<Acl>, Errno> {
        let (version, rest) = bytes.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        if rest.len() % ENTRY_LEN != 0 {
            return Err(Errno::EINVAL);
        }
        let entries: Vec<Entry> =
            rest.chunks_exact(ENTRY_LEN).map(Entry::parse).collect::<Result<_, _>>()?;
        if entries.is_empty() {
            return Ok(None);
        }
        let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
        let named = count(Tag::User) + count(Tag::Group) > 0;
        let valid = entries.is_sorted_by_key(|entry| entry.tag)
            && count(Tag::Owner) == 1
            && count(Tag::OwningGroup) == 1
            && count(Tag::Other) == 1
            && (count(Tag::Mask) == 1 || count(Tag::Mask) == 0 && !named);
        if valid { Ok(Some(Acl(entries))) } else { Err(Errno::EINVAL) }
    }

    /// The value of an attribute.
    pub fn encode(&self) -> Box<[u8]> {
        let mut bytes = Vec::with_capacity(4 + self.0.len() * ENTRY_LEN);
        bytes.extend(VERSION.to_le_bytes());
        for Entry { tag, perm, id } in &self.0 {
            let number = TAGS.iter().find(|(_, other)| other == tag).map_or(0, |found| found.0);
            bytes.extend(number.to_le_bytes());
            bytes.extend(perm.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes.into()
    }

    /// The permission bits that a file with this list shows.
    pub fn mode(&self) -> u16 {
        self.0.iter().fold(0, |mode, entry| match self.shift(entry.tag) {
            Some(shift) => mode | entry.perm << shift,
            None => mode,
        })
    }

    /// Whether the mode says as much as this list.
    pub fn is_mode(&self) -> bool {
        self.0.len() == 3
    }

    /// Makes the list agree with the bits of `mode`.
    pub fn chmod(&mut self, mode: u16) {
        for at in 0..self.0.len() {
            if let Some(shift) = self.shift(self.0[at].tag) {
                self.0[at].perm = mode >> shift & 0o7;
            }
        }
    }

    /// Makes of a directory's default list the one of something made in it, for which `mode`
    /// was asked; returns the mode that it gets.
    pub fn inherit(&mut self, mode: u16) -> u16 {
        let bits = self.mode() & mode;
        self.chmod(bits);
        mode & !0o777 | bits
    }

    /// Where the permissions of an entry stand in a mode. If there is a mask, it stands for the
    /// group.
    fn shift(&self, tag: Tag) -> Option<u16> {
        let masked = self.0.iter().any(|entry| entry.tag == Tag::Mask);
        match tag {
            Tag::Owner => Some(6),
            Tag::Mask => Some(3),
            Tag::OwningGroup if !masked => Some(3),
            Tag::Other => Some(0),
            Tag::User | Tag::OwningGroup | Tag::Group => None,
        }
    }
}

impl Entry {
    fn parse(bytes: &[u8]) -> Result<Entry, Errno> {
        let (number, perm) = ([bytes[0], bytes[1]], [bytes[2], bytes[3]]);
        let id = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let number = u16::from_le_bytes(number);
        let found = TAGS.iter().find(|(other, _)| *other == number).ok_or(Errno::EINVAL)?;
        let (tag, perm) = (found.1, u16::from_le_bytes(perm));
        let named = matches!(tag, Tag::User | Tag::Group);
        if perm > 0o7 || named && id == NOBODY {
            return Err(Errno::EINVAL);
        }
        Ok(Entry { tag, perm, id: if named { id } else { NOBODY } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(perm.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        Acl::parse(&list(entries)).expect("valid").expect("has entries")
    }

    const ANY: u32 = NOBODY;

    /// `u::rwx,u:7:rw-,g::r-x,m::r--,o::--x`
    const NAMED: [(u16, u16, u32); 5] =
        [(1, 7, ANY), (2, 6, 7), (4, 5, ANY), (0x10, 4, ANY), (0x20, 1, ANY)];

    #[test]
    fn the_mask_stands_for_the_group_in_the_mode() {
        assert_eq!(acl(&NAMED).mode(), 0o741);
        assert!(!acl(&NAMED).is_mode());
        let minimal = acl(&[(1, 6, ANY), (4, 5, ANY), (0x20, 0, ANY)]);
        assert_eq!((minimal.mode(), minimal.is_mode()), (0o650, true));
        let mut changed = acl(&NAMED);
        changed.chmod(0o4620);
        let expected = [(1, 6, ANY), (2, 6, 7), (4, 5, ANY), (0x10, 2, ANY), (0x20, 0, ANY)];
        assert_eq!(changed, acl(&expected));
    }

    #[test]
    fn what_is_made_gets_no_more_than_was_asked_for() {
        let mut made = acl(&NAMED);
        assert_eq!(made.inherit(0o6666), 0o6640);
        let expected = [(1, 6, ANY), (2, 6, 7), (4, 5, ANY), (0x10, 4, ANY), (0x20, 0, ANY)];
        assert_eq!(made, acl(&expected));
        let mut made = acl(&NAMED);
        assert_eq!(made.inherit(0o2777), 0o2741);
        assert_eq!(made, acl(&NAMED));
    }

    #[test]
    fn invalid_lists_are_refused() {
        assert_eq!(Acl::parse(&list(&[])), Ok(None));
        assert_eq!(Acl::parse(b""), Err(Errno::EINVAL));
        assert_eq!(Acl::parse(&[1, 0, 0, 0]), Err(Errno::EOPNOTSUPP));
        assert_eq!(Acl::parse(&list(&NAMED)[..11]), Err(Errno::EINVAL));
        let bad: [&[(u16, u16, u32)]; 8] = [
            // Something is missing, twice there, or out of order.
            &[(1, 7, ANY), (4, 7, ANY)],
            &[(1, 7, ANY), (4, 7, ANY), (0x20, 0, ANY), (0x20, 0, ANY)],
            &[(4, 7, ANY), (1, 7, ANY), (0x20, 0, ANY)],
            // A name without a mask; two masks.
            &[(1, 7, ANY), (2, 7, 7), (4, 7, ANY), (0x20, 0, ANY)],
            &[(1, 7, ANY), (4, 7, ANY), (0x10, 7, ANY), (0x10, 7, ANY), (0x20, 0, ANY)],
            // No such permission; no such tag; a name for nobody.
            &[(1, 8, ANY), (4, 7, ANY), (0x20, 0, ANY)],
            &[(1, 7, ANY), (3, 7, ANY), (4, 7, ANY), (0x20, 0, ANY)],
            &[(1, 7, ANY), (2, 7, ANY), (4, 7, ANY), (0x10, 7, ANY), (0x20, 0, ANY)],
        ];
        for entries in bad {
            assert_eq!(Acl::parse(&list(entries)), Err(Errno::EINVAL), "{entries:?}");
        }
    }

    /// Whatever the bytes are: they are refused, or what is read from them is written as it was
    /// and agrees with the mode it is given.
    #[test]
    fn noise_is_refused_or_sound() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut valid = 0;
        for _ in 0..50_000 {
            let mut bytes = list(&NAMED);
            for _ in 0..random(3) {
                let at = random(bytes.len() as u64) as usize;
                bytes[at] = if random(2) == 0 { random(33) as u8 } else { random(256) as u8 };
            }
            bytes.truncate(bytes.len() - if random(4) == 0 { random(20) as usize } else { 0 });
            let Ok(Some(mut acl)) = Acl::parse(&bytes) else { continue };
            valid += 1;
            assert_eq!(Acl::parse(&acl.encode()), Ok(Some(acl.clone())));
            let mode = random(0o10000) as u16;
            let before = acl.mode();
            let mut made = acl.clone();
            assert_eq!(made.inherit(mode), mode & !0o777 | mode & before);
            assert_eq!(made.mode(), mode & before);
            acl.chmod(mode);
            assert_eq!(acl.mode(), mode & 0o777);
        }
        assert!(valid > 1000, "{valid} were valid");
    }
}
