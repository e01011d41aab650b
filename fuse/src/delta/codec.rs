//! Little-endian bytes: how the fields of the log are written and read.

use super::node::Time;

/// Why a payload could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends in the middle of a field.
    #[error("it ends in the middle of a field")]
    Short,
    /// A field is longer than it may be.
    #[error("a field is longer than it may be")]
    Long,
    /// A tag or flag is none that this version knows.
    #[error("an unknown tag")]
    Tag,
    /// A name is empty or holds `/` or NUL.
    #[error("a name that cannot be a name")]
    Name,
}

/// Builds a payload.
pub struct Writer(Vec<u8>);

impl Writer {
    /// Begins with `space` zero bytes, to be filled in later.
    pub fn with_space(space: usize) -> Writer {
        let mut bytes = Vec::with_capacity(256);
        bytes.resize(space, 0);
        Writer(bytes)
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A time.
    pub fn time(&mut self, time: Time) {
        self.u64(time.secs as u64);
        self.u32(time.nanos);
    }

    /// A name of at most 255 bytes.
    pub fn name(&mut self, name: &[u8]) {
        self.u8(u8::try_from(name.len()).expect("names are checked where they come in"));
        self.0.extend_from_slice(name);
    }

    /// Bytes with their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("lengths are checked where they come in"));
        self.0.extend_from_slice(bytes);
    }

    /// Something that may be absent.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Takes a payload apart.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes` from the beginning.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// One byte that is 0 or 1.
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Tag),
        }
    }

    /// A time.
    pub fn time(&mut self) -> Result<Time, DecodeError> {
        let (secs, nanos) = (self.u64()? as i64, self.u32()?);
        if nanos < 1_000_000_000 { Ok(Time { secs, nanos }) } else { Err(DecodeError::Long) }
    }

    /// A name of at most 255 bytes.
    pub fn name(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// Bytes with their length, which is at most `max`.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()? as usize;
        if length > max {
            return Err(DecodeError::Long);
        }
        self.take(length)
    }

    /// Something that may be absent.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }
}
