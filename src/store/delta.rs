//! Contents that are told by another: applying a delta, and making one.
//!
//! A snapshot makes one for a large file whose path held another content the last time, if
//! that is clearly smaller than the chunks that the store does not have. The other content,
//! the base, is read front to back alongside, from what is stored plainly; each chunk of it
//! is verified, so nothing is ever made to rely on what is damaged.
//!
//! What is in memory is the record (16 MB at the most), a part of the base (16 MB) and a
//! piece (8 MB), of which a writer makes records of 16, 12 and 4. Only two of long contents
//! are at work at a time in a process, small ones run side by side: a snapshot of 211 MB in
//! four files, all of which became deltas, took 137 MB when one at a time was, and restoring
//! them 85 MB.

use std::sync::{Condvar, Mutex, PoisonError};

use super::error::StoreError;
use super::format::content::Recipe;
use super::format::delta::{Delta, MAX_DELTA, make_patch, plan};
use super::format::{FileId, FormatError, RecordId};
use super::objects::Objects;

/// No delta is made of a shorter file: what it would save is little.
pub const MIN: u64 = 128 << 10;

/// Contents over this length take turns.
const LONG: u64 = 4 << 20;

/// So many at a time in a process.
const AT_ONCE: usize = 2;

/// How many are at work, and a sign when one ends.
static WORKING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Others may begin once it is dropped.
struct Turn;

fn turn(size: u64) -> Option<Turn> {
    if size <= LONG {
        return None;
    }
    // A count is never half changed, so what a panic leaves is right.
    let (working, ended) = &WORKING;
    let working = working.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = ended.wait_while(working, |working| *working >= AT_ONCE);
    *waited.unwrap_or_else(PoisonError::into_inner) += 1;
    Some(Turn)
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (working, ended) = &WORKING;
        *working.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ended.notify_one();
    }
}

/// A content that is stored plainly, read front to back, a part at a time.
struct Base<'o> {
    objects: &'o Objects,
    chunks: std::vec::IntoIter<(u32, FileId)>,
    size: u64,
    /// Where in the content `bytes` begins.
    start: u64,
    bytes: Vec<u8>,
}

impl<'o> Base<'o> {
    fn open(objects: &'o Objects, id: &FileId) -> Result<Base<'o>, StoreError> {
        let chunks = match objects.locate(&RecordId::data(id))? {
            Some(whole) => vec![(whole.length, *id)],
            None => match objects.read(&RecordId::recipe(id), Recipe::decode) {
                Err(StoreError::Missing { .. }) => {
                    return Err(StoreError::Missing { record: RecordId::data(id) });
                }
                recipe => recipe?.chunks,
            },
        };
        let size = chunks.iter().map(|(length, _)| u64::from(*length)).sum();
        let chunks = chunks.into_iter();
        Ok(Base { objects, chunks, size, start: 0, bytes: Vec::new() })
    }

    /// The part from `offset` on. Neither its beginning nor its end may lie before those of
    /// the part before. None if it reaches over the end of the content.
    fn part(&mut self, offset: u64, length: usize) -> Result<Option<&[u8]>, StoreError> {
        let end = offset + length as u64;
        if end > self.size {
            return Ok(None);
        }
        let passed = (offset - self.start).min(self.bytes.len() as u64);
        self.bytes.drain(..passed as usize);
        self.start += passed;
        while self.start + (self.bytes.len() as u64) < end
            && let Some((length, chunk)) = self.chunks.next()
        {
            let next = self.start + self.bytes.len() as u64;
            if next + u64::from(length) <= offset {
                self.start += u64::from(length);
                continue;
            }
            let verified =
                |bytes: &[u8]| match bytes.len() == length as usize && FileId::of(bytes) == chunk {
                    true => Ok(bytes.to_vec()),
                    false => Err(FormatError::Hash { what: "a content" }),
                };
            self.bytes.extend(self.objects.read(&RecordId::data(&chunk), verified)?);
        }
        let from = (offset - self.start) as usize;
        Ok(self.bytes.get(from..from + length))
    }
}

/// The delta of a content.
pub fn read(objects: &Objects, id: &FileId) -> Result<Delta, StoreError> {
    objects.read(&RecordId::delta(id), Delta::decode)
}

/// Gives the pieces of a content that is stored as a delta to `put`, in order, and verifies
/// the whole.
pub fn join(
    objects: &Objects,
    id: &FileId,
    mut put: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let record = RecordId::delta(id);
    let damaged = |source| StoreError::DamagedRecord { record, source };
    let length = objects.locate(&record)?.map_or(0, |at| at.length);
    let _turn = turn(length.into());
    let delta = read(objects, id)?;
    let mut base = Base::open(objects, &delta.base)?;
    if base.size != delta.base_size {
        let why = "its base has another length";
        return Err(damaged(FormatError::Invalid { what: "a delta", why }));
    }
    let mut hasher = blake3::Hasher::new();
    for (piece, patch) in delta.patches() {
        let part = base
            .part(piece.offset, piece.part as usize)?
            .ok_or_else(|| damaged(FormatError::Truncated { what: "the base of a delta" }))?;
        let bytes = piece.apply(part, patch).map_err(damaged)?;
        hasher.update(&bytes);
        put(&bytes)?;
    }
    match hasher.finalize().as_bytes() == id.as_bytes() {
        true => Ok(delta.size()),
        false => Err(StoreError::DamagedFile { id: *id }),
    }
}

/// The content that a delta of what follows `previous` may be made from: itself, or its own
/// base. None if neither is stored plainly.
pub fn base_for(objects: &Objects, previous: &FileId) -> Result<Option<FileId>, StoreError> {
    if is_plain(objects, previous)? {
        return Ok(Some(*previous));
    }
    if !objects.contains(&RecordId::delta(previous))? {
        return Ok(None);
    }
    let base = match read(objects, previous) {
        Ok(delta) => delta.base,
        Err(e) => return unusable(e),
    };
    Ok(is_plain(objects, &base)?.then_some(base))
}

/// Whether the index knows the delta of the content `id` and all of the base.
pub fn is_whole(objects: &Objects, id: &FileId) -> Result<bool, StoreError> {
    // Asked first, as a record that is missed when it is read makes the index doubted.
    if !objects.contains(&RecordId::delta(id))? {
        return Ok(false);
    }
    let Ok(Delta { base, .. }) = read(objects, id) else { return Ok(false) };
    if objects.contains(&RecordId::data(&base))? {
        return Ok(true);
    }
    let list = RecordId::recipe(&base);
    if !objects.contains(&list)? {
        return Ok(false);
    }
    let Ok(recipe) = objects.read(&list, Recipe::decode) else { return Ok(false) };
    let chunks: Vec<RecordId> = recipe.chunks.iter().map(|(_, id)| RecordId::data(id)).collect();
    Ok(objects.locate_all(&chunks)?.iter().all(Option::is_some))
}

fn is_plain(objects: &Objects, id: &FileId) -> Result<bool, StoreError> {
    let ids = [RecordId::data(id), RecordId::recipe(id)];
    Ok(objects.locate_all(&ids)?.iter().any(Option::is_some))
}

/// What is damaged is no base; a snapshot does not fail for it.
fn unusable<T>(error: StoreError) -> Result<Option<T>, StoreError> {
    match error {
        StoreError::Missing { .. }
        | StoreError::DamagedPack { .. }
        | StoreError::DamagedRecord { .. }
        | StoreError::Read { .. } => Ok(None),
        error => Err(error),
    }
}

/// The record of the delta that makes the content `id`, `size` bytes long, of `base`, unless
/// it would be longer than `limit`. `fill` fills its argument with the next bytes of the
/// content. None, too, if these are not what `id` says, or the base is damaged.
pub fn make(
    objects: &Objects,
    base: &FileId,
    (id, size): (&FileId, u64),
    limit: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<(), StoreError>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let _turn = turn(size);
    let mut source = match Base::open(objects, base) {
        Ok(source) => source,
        Err(e) => return unusable(e),
    };
    let Some(pieces) = plan(source.size, size) else { return Ok(None) };
    let mut delta = Delta { base: *base, base_size: source.size, pieces, patches: Vec::new() };
    let limit = limit.min(MAX_DELTA);
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::new();
    for piece in &mut delta.pieces {
        bytes.resize(piece.length as usize, 0);
        fill(&mut bytes)?;
        hasher.update(&bytes);
        let part = match source.part(piece.offset, piece.part as usize) {
            Ok(Some(part)) => part,
            Ok(None) => return Ok(None),
            Err(e) => return unusable(e),
        };
        let Ok(patch) = make_patch(part, &bytes) else { return Ok(None) };
        if delta.patches.len() + patch.len() > limit {
            return Ok(None);
        }
        piece.patch = patch.len() as u32;
        delta.patches.extend(patch);
    }
    let record = delta.encode().ok().filter(|record| record.len() <= limit);
    Ok(record.filter(|_| hasher.finalize().as_bytes() == id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::contents;
    use crate::store::format::content::Parameters;
    use crate::store::format::pack::FRAME;
    use crate::store::objects::Writer;
    use crate::store::pack::FrameBuilder;
    use crate::store::storage::Disk;

    struct Fixture {
        _dir: tempfile::TempDir,
        objects: Objects,
    }

    fn store() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        for name in ["packs", "tmp"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let objects = Objects::open(dir.path(), Arc::new(Disk)).unwrap();
        Fixture { _dir: dir, objects }
    }

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn write(objects: &Objects, records: Vec<(RecordId, Vec<u8>)>) {
        let writer: Writer<'_> = objects.writer();
        let mut frame = FrameBuilder::default();
        for (id, bytes) in records {
            writer.add(&mut frame, FRAME, id, &bytes).unwrap();
        }
        writer.flush(&mut frame).unwrap();
        writer.finish().unwrap();
    }

    /// Stores a content in chunks.
    fn put(objects: &Objects, content: &[u8]) -> FileId {
        let (mut records, mut recipe, mut rest) = (Vec::new(), Recipe::default(), content);
        while !rest.is_empty() {
            let (chunk, others) = rest.split_at(Parameters::for_file(content).cut(rest));
            let id = FileId::of(chunk);
            recipe.chunks.push((chunk.len() as u32, id));
            records.push((RecordId::data(&id), chunk.to_vec()));
            rest = others;
        }
        let id = FileId::of(content);
        records.push((RecordId::recipe(&id), recipe.encode().unwrap()));
        write(objects, records);
        id
    }

    fn make_of(objects: &Objects, base: &FileId, content: &[u8]) -> Option<Vec<u8>> {
        let mut rest = content;
        let id = FileId::of(content);
        make(objects, base, (&id, content.len() as u64), MAX_DELTA, |bytes| {
            let (head, tail) = rest.split_at(bytes.len());
            bytes.copy_from_slice(head);
            rest = tail;
            Ok(())
        })
        .unwrap()
    }

    /// A base and what became of it: over several pieces, edited, grown and shrunk.
    fn versions() -> (Vec<u8>, Vec<u8>) {
        let old = noise(1, 11 << 20);
        let mut new = old.clone();
        new.splice(100..100, noise(2, 5000));
        new.drain(7 << 20..(7 << 20) + 70_001);
        new.extend(noise(3, 333));
        (old, new)
    }

    #[test]
    fn a_content_comes_out_of_its_delta_and_a_delta_of_it_has_its_base() {
        let Fixture { objects, .. } = &store();
        let (old, new) = versions();
        let base = put(objects, &old);
        let record = make_of(objects, &base, &new).unwrap();
        assert!(record.len() < 30_000, "{}", record.len());
        let id = FileId::of(&new);
        write(objects, vec![(RecordId::delta(&id), record)]);
        assert_eq!(contents::size(objects, &id).unwrap(), Some(new.len() as u64));
        assert!(contents::read(objects, &id).unwrap() == new);

        assert_eq!(base_for(objects, &base).unwrap(), Some(base));
        assert_eq!(base_for(objects, &id).unwrap(), Some(base));
        assert_eq!(base_for(objects, &FileId::of(b"neither")).unwrap(), None);
    }

    #[test]
    fn none_is_made_that_does_not_pay_or_whose_base_is_not_sound() {
        let Fixture { objects, .. } = &store();
        let base = put(objects, &noise(1, 300_000));
        assert!(make_of(objects, &base, &noise(1, 700_000)).is_none(), "twice as long");
        assert!(make_of(objects, &FileId::of(b"not there"), &noise(1, 300_000)).is_none());
        let other = noise(2, 300_000);
        let id = FileId::of(&other);
        let made = make(objects, &base, (&id, 300_000), 200_000, |bytes| {
            bytes.copy_from_slice(&other);
            Ok(())
        });
        assert!(made.unwrap().is_none(), "over the limit");
        let changing = make(objects, &base, (&id, 300_000), MAX_DELTA, |bytes| {
            bytes.fill(0);
            Ok(())
        });
        assert!(changing.unwrap().is_none(), "not what its id says");
    }

    #[test]
    fn a_delta_that_lies_is_found_out() {
        let Fixture { objects, .. } = &store();
        let (old, new) = versions();
        let base = put(objects, &old);
        let record = make_of(objects, &base, &new).unwrap();
        // Of another content; of a base that is not there; of one of another length; of
        // another delta.
        let told = |name: &[u8], change: &dyn Fn(&mut Delta)| {
            let mut delta = Delta::decode(&record).unwrap();
            change(&mut delta);
            let id = FileId::of(name);
            write(objects, vec![(RecordId::delta(&id), delta.encode().unwrap())]);
            contents::read(objects, &id).unwrap_err()
        };
        assert!(matches!(told(b"1", &|_| {}), StoreError::DamagedFile { .. }));
        let missing = told(b"2", &|delta| delta.base = FileId::of(b"nothing"));
        let expected = RecordId::data(&FileId::of(b"nothing"));
        assert!(matches!(missing, StoreError::Missing { record } if record == expected));
        let short = told(b"3", &|delta| delta.base_size += 1);
        assert!(matches!(short, StoreError::DamagedRecord { .. }));
        let deep = told(b"4", &|delta| delta.base = FileId::of(b"1"));
        assert!(matches!(deep, StoreError::Missing { .. }), "{deep}");
        let torn = told(b"5", &|delta| delta.patches[9] ^= 1);
        let torn =
            matches!(torn, StoreError::DamagedRecord { .. } | StoreError::DamagedFile { .. });
        assert!(torn);
    }
}
