//! The index as it is, for who compares it with the packs.

use rusqlite::{OptionalExtension, params};

use super::{Index, Session};
use crate::store::error::StoreError;
use crate::store::format::{PackId, RecordId, RecordKind};

/// A record, and where it is in a pack: the frame's header, the offset in the frame, the length.
pub type Row = (RecordId, u64, u32, u32);

impl Index {
    /// Runs `work` while nobody adds a pack or makes the index anew.
    pub fn frozen<R>(&self, work: impl FnOnce() -> Result<R, StoreError>) -> Result<R, StoreError> {
        let lock = self.open_lock()?;
        lock.lock().map_err(StoreError::write(&self.lock))?;
        work()
    }

    /// What SQLite finds wrong with its file; the first of it.
    pub fn fault(&self) -> Result<Option<String>, StoreError> {
        match self.with(|session| session.fault()) {
            Ok(answer) => Ok((answer != "ok").then_some(answer)),
            Err(e) if self.is_lost(&e) => Ok(Some(e.to_string())),
            Err(e) => Err(e),
        }
    }

    /// How many rows each pack has; none for rows of packs that the index does not know.
    pub fn rows_by_pack(&self) -> Result<Vec<(Option<PackId>, u64)>, StoreError> {
        self.with(|session| {
            let mut query = session.connection.prepare(
                "SELECT name, rows FROM (SELECT pack, count(*) AS rows FROM records GROUP BY pack)
                 LEFT JOIN packs ON no = pack",
            )?;
            let count = |row: &rusqlite::Row<'_>| {
                let name: Option<[u8; 32]> = row.get(0)?;
                Ok((name.map(PackId::from_bytes), row.get::<_, i64>(1)? as u64))
            };
            query.query_map([], count)?.collect()
        })
    }

    /// The rows of one pack. Looks at all rows of the index.
    pub fn rows_of(&self, pack: &PackId) -> Result<Vec<Row>, StoreError> {
        self.with(|session| {
            let mut query = session.connection.prepare(
                "SELECT id, kind, frame, start, length FROM records
                 WHERE pack = (SELECT no FROM packs WHERE name = ?1)",
            )?;
            let row = |row: &rusqlite::Row<'_>| {
                let kind = RecordKind::from_u8(row.get(1)?);
                let (id, at) = (row.get(0)?, row.get::<_, i64>(2)? as u64);
                Ok(kind
                    .map(|kind| (RecordId { kind, id }, at))
                    .zip(Some((row.get(3)?, row.get(4)?))))
            };
            let rows = query.query_map(params![pack.as_bytes()], row)?;
            rows.filter_map(Result::transpose)
                .map(|row| row.map(|((id, at), (offset, length))| (id, at, offset, length)))
                .collect()
        })
    }
}

impl Session {
    fn fault(&mut self) -> rusqlite::Result<String> {
        let version = self.version()?;
        if version != crate::store::format::VERSION {
            return Ok(format!("it has version {version}"));
        }
        // A schema that was changed may be whole in itself.
        self.connection.prepare("SELECT no, name, size, forgotten FROM packs")?;
        self.connection.prepare("SELECT id, kind, pack, frame, start, length FROM records")?;
        let answer = self.connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
        Ok(answer.optional()?.unwrap_or_else(|| "ok".to_owned()))
    }
}
