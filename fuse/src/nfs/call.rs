//! Calls as they come over the wire (RFC 5531), as far as they are looked at before the crate.

use nfsserve::nfs::nfsstat3;
use nfsserve::xdr::XDR;

use crate::overlay::Caller;

/// The program of files, and that of mounting.
pub(super) const NFS: u32 = 100_003;
const VERSION: u32 = 3;

/// Credentials that say a user's number.
const AUTH_SYS: u32 = 1;
/// The longest credentials there may be.
const MAX_CREDENTIALS: usize = 400;

/// What comes before the length of a record (RFC 5531, section 11), of which we send one piece.
const LAST: u32 = 1 << 31;
/// Length of that.
pub(super) const MARK: usize = 4;

/// The head of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// The client's number for it.
    pub xid: u32,
    /// What is called, in the program and version that [`Call::is_nfs`] says.
    pub procedure: u32,
    /// Whether it is for the files.
    pub is_nfs: bool,
    /// Who calls, as the client says.
    pub caller: Option<Caller>,
    /// Where the arguments begin.
    pub arguments: usize,
}

impl Call {
    /// Reads the head of a record without its mark; `None` if it is no call.
    pub fn parse(record: &[u8]) -> Option<Call> {
        let mut input = Reader(record);
        let (xid, is_reply, rpc_version) = (input.u32()?, input.u32()?, input.u32()?);
        if is_reply != 0 || rpc_version != 2 {
            return None;
        }
        let (program, version, procedure) = (input.u32()?, input.u32()?, input.u32()?);
        let (flavor, credentials) = (input.u32()?, input.bytes(MAX_CREDENTIALS)?);
        input.u32()?;
        input.bytes(MAX_CREDENTIALS)?;
        Some(Call {
            xid,
            procedure,
            is_nfs: (program, version) == (NFS, VERSION),
            caller: if flavor == AUTH_SYS { caller(credentials) } else { None },
            arguments: record.len() - input.0.len(),
        })
    }
}

/// A stamp, a machine's name, then the user and the group.
fn caller(credentials: &[u8]) -> Option<Caller> {
    let mut input = Reader(credentials);
    input.u32()?;
    input.bytes(255)?;
    Some(Caller { uid: input.u32()?, gid: input.u32()?, umask: 0 })
}

/// Reads what is encoded as XDR (RFC 4506), and never more than there is.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// At most `most` bytes, which have their length before them and are filled up to four.
    pub fn bytes(&mut self, most: usize) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        if length > most {
            return None;
        }
        let (bytes, rest) = self.0.split_at_checked(length.next_multiple_of(4))?;
        self.0 = rest;
        Some(&bytes[..length])
    }
}

/// The beginning of an answer to `xid` that says that the call was understood.
pub(super) fn accepted(xid: u32) -> Vec<u8> {
    // A reply, accepted, with no verifier of 0 bytes, executed.
    words(&[0, xid, 1, 0, 0, 0, 0])
}

/// The whole answer to `xid` from somebody whom nobody lets in (AUTH_TOOWEAK).
pub(super) fn refused(xid: u32) -> Vec<u8> {
    sealed(words(&[0, xid, 1, 1, 1, 5]))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Appends `value`.
pub(super) fn put(out: &mut Vec<u8>, value: &impl XDR) {
    // A vector takes everything.
    let _ = value.serialize(out);
}

/// An answer, or a call, with the mark at its beginning filled in.
pub(super) fn sealed(mut record: Vec<u8>) -> Vec<u8> {
    let length = (record.len() - MARK) as u32;
    record[..MARK].copy_from_slice(&(length | LAST).to_be_bytes());
    record
}

/// What a mark says: the length of the piece that follows, and whether it is the last.
pub(super) fn mark(bytes: [u8; MARK]) -> (usize, bool) {
    let word = u32::from_be_bytes(bytes);
    ((word & !LAST) as usize, word & LAST != 0)
}

/// What is answered to arguments that are none.
pub(super) const GARBAGE: nfsstat3 = nfsstat3::NFS3ERR_INVAL;

#[cfg(test)]
mod tests {
    use super::*;

    /// A call of procedure 4 by user 7, with `arguments`.
    fn record(arguments: &[u8]) -> Vec<u8> {
        let mut record = words(&[9, 0, 2, NFS, VERSION, 4, AUTH_SYS, 28, 0, 5]);
        record.extend(b"a b c\0\0\0");
        record.extend(words(&[7, 8, 0, 0, 0]));
        record.extend(arguments);
        record
    }

    #[test]
    fn a_head_is_read_and_one_that_is_cut_off_is_none() {
        let whole = record(b"rest");
        let call = Call::parse(&whole).expect("it is a call");
        let caller = Some(Caller { uid: 7, gid: 8, umask: 0 });
        let arguments = whole.len() - 4;
        assert_eq!(call, Call { xid: 9, procedure: 4, is_nfs: true, caller, arguments });
        let head = record(&[]);
        for length in 0..head.len() {
            assert_eq!(Call::parse(&head[..length]), None, "{length}");
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        let long = words(&[u32::MAX, 1]);
        assert!(Reader(&long).bytes(usize::MAX).is_none());
        assert!(Reader(&words(&[5, 1, 1])).bytes(4).is_none());
        assert_eq!(Reader(&words(&[5, 1, 1])).bytes(5).map(<[u8]>::len), Some(5));
        assert!(Reader(&words(&[5, 1])).bytes(5).is_none());
        let mut endless = record(&[]);
        endless[28..32].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Call::parse(&endless), None);
    }
}
