//! What the collector asks of the index, and how it makes records and packs unknown.

use rusqlite::{Statement, Transaction, TransactionBehavior, params};

use super::{Index, Packed, Writing, insert};
use crate::store::error::StoreError;
use crate::store::format::pack::Footer;
use crate::store::format::{PackId, RecordId, RecordKind};

/// A row of the index.
pub struct Row {
    /// The record.
    pub id: RecordId,
    /// The number of its pack, see [`Index::packs`].
    pub pack: i64,
    /// Where its frame begins in the pack.
    pub frame: u64,
    /// How long it is.
    pub length: u32,
}

/// A pack that the index knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its number in this index.
    pub no: i64,
    /// Its name.
    pub pack: PackId,
    /// Its size in bytes.
    pub size: u64,
    /// How many of its records the collector has made the index forget.
    pub forgotten: u64,
}

impl Index {
    /// The packs.
    pub fn packs(&self) -> Result<Vec<Known>, StoreError> {
        self.with(|session| {
            let mut query =
                session.connection.prepare("SELECT no, name, size, forgotten FROM packs")?;
            let rows = query.query_map([], |row| {
                let (no, pack) = (row.get(0)?, PackId::from_bytes(row.get(1)?));
                let (size, forgotten) = (row.get::<_, i64>(2)?, row.get::<_, i64>(3)?);
                Ok(Known { no, pack, size: size as u64, forgotten: forgotten as u64 })
            })?;
            rows.collect()
        })
    }

    /// Gives every record to `each`, in no order that matters.
    pub fn each(&self, each: &mut dyn FnMut(&Row)) -> Result<(), StoreError> {
        self.with(|session| {
            let mut query =
                session.connection.prepare("SELECT id, kind, pack, frame, length FROM records")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let kind: u8 = row.get(1)?;
                let kind = RecordKind::from_u8(kind)
                    .ok_or(rusqlite::Error::IntegralValueOutOfRange(1, kind.into()))?;
                let frame: i64 = row.get(3)?;
                each(&Row {
                    id: RecordId { kind, id: row.get(0)? },
                    pack: row.get(2)?,
                    frame: frame as u64,
                    length: row.get(4)?,
                });
            }
            Ok(())
        })
    }

    /// Runs `work`, which may do its work again, in one durable transaction.
    pub fn change(
        &self,
        _: &Writing,
        work: &mut dyn FnMut(&Change<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        loop {
            let file = self.with(|session| {
                let transaction =
                    session.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let done = work(&Change { index: self, transaction: &transaction });
                if done.is_ok() {
                    transaction.commit()?;
                }
                Ok(done.map(|()| session.file))
            })??;
            // Somebody may have deleted the file, and another have made it anew, before the
            // lock was taken.
            if self.file().is_ok_and(|now| now == file) {
                self.fold_log();
                return Ok(());
            }
            self.forget_connections();
        }
    }
}

/// What becomes true at once.
pub struct Change<'t> {
    index: &'t Index,
    transaction: &'t Transaction<'t>,
}

impl Change<'_> {
    /// Makes the records of `footer`, which is of `pack`, unknown where `is_gone` says so and
    /// they are known to be in that pack.
    pub fn forget(
        &self,
        pack: &PackId,
        footer: &Footer,
        is_gone: &dyn Fn(&RecordId) -> bool,
    ) -> Result<(), StoreError> {
        let mut gone: Vec<&RecordId> =
            footer.records.iter().map(|record| &record.id).filter(|id| is_gone(id)).collect();
        // In the order of the keys, which is several times faster.
        gone.sort_unstable_by_key(|id| id.id);
        let forget = || {
            let mut delete: Statement<'_> = self.transaction.prepare(
                "DELETE FROM records WHERE id = ?1 AND kind = ?2
                 AND pack = (SELECT no FROM packs WHERE name = ?3)",
            )?;
            let mut forgotten = 0;
            for id in gone {
                forgotten += delete.execute(params![id.id, id.kind as u8, pack.as_bytes()])?;
            }
            self.transaction.execute(
                "UPDATE packs SET forgotten = forgotten + ?1 WHERE name = ?2",
                params![forgotten as i64, pack.as_bytes()],
            )?;
            Ok(())
        };
        forget().map_err(|e| self.index.failed(e))
    }

    /// Makes a pack unknown, none of whose records is known any more.
    pub fn forget_pack(&self, pack: &PackId) -> Result<(), StoreError> {
        self.transaction
            .execute("DELETE FROM packs WHERE name = ?1", [pack.as_bytes()])
            .map(drop)
            .map_err(|e| self.index.failed(e))
    }

    /// Makes a pack known, and those of its records that are not yet.
    pub fn add(&self, packed: &Packed) -> Result<(), StoreError> {
        insert(self.transaction, packed).map_err(|e| self.index.failed(e))
    }
}
