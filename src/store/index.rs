//! The index: which pack holds a record, and where. A SQLite database in WAL mode, written
//! once a pack. It is a cache of the packs' footers and nothing else, so a missing or
//! corrupt one is made anew.
//!
//! `index.lock` orders writers and rebuilders: a writer holds it shared from before its pack
//! gets its name until the pack is in the index, and so does who removes packs, from before
//! they leave the index until they are gone; a rebuilder holds it exclusively. So a rebuild
//! sees every pack that anybody was told of, and none that is about to go. A writer that finds the database replaced under it
//! (somebody deleted the file) writes again into the new one.
//!
//! The index holds nothing that names what it does not hold: the collector makes it forget
//! every record that no root needs, also those that stay where they are in packs not worth
//! rewriting. Only an index made anew from the packs knows those again, until the next
//! collection.

mod agree;
mod examine;
mod prune;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

pub use agree::Difference;
use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

pub use prune::Known;

use super::error::StoreError;
use super::format::pack::Footer;
use super::format::{PackId, RecordId, VERSION};

/// A log longer than this is folded into the database: the first process to open the index
/// reads all of it.
const LONG_LOG: u64 = 1 << 20;

/// How long a transaction waits for others.
const PATIENCE: Duration = Duration::from_secs(120);

const SCHEMA: &str = "
    DROP TABLE IF EXISTS records;
    DROP TABLE IF EXISTS packs;
    CREATE TABLE packs (
        no   INTEGER PRIMARY KEY,
        name BLOB NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        forgotten INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE records (
        id     BLOB NOT NULL,
        kind   INTEGER NOT NULL,
        pack   INTEGER NOT NULL,
        frame  INTEGER NOT NULL,
        start  INTEGER NOT NULL,
        length INTEGER NOT NULL,
        PRIMARY KEY (id, kind)
    ) WITHOUT ROWID;";

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// Where the frame's header begins in the pack.
    pub frame: u64,
    /// Where the record begins in the decoded frame.
    pub offset: u32,
    /// How long the record is.
    pub length: u32,
}

/// A pack and what it holds.
pub struct Packed {
    /// The pack.
    pub pack: PackId,
    /// Its footer.
    pub footer: Footer,
    /// Its size in bytes.
    pub size: u64,
}

/// Held while a pack gets its name and is put into the index.
pub struct Writing(#[expect(dead_code, reason = "the lock goes with the descriptor")] File);

/// While it is held nobody adds a pack, or makes the index anew.
pub struct Alone(#[expect(dead_code, reason = "the lock goes with the descriptor")] File);

/// The index of one store. Connections are shared by the threads of this process.
pub struct Index {
    path: PathBuf,
    lock: PathBuf,
    idle: Mutex<Vec<Session>>,
}

/// A connection, and which file it is connected to.
struct Session {
    connection: Connection,
    file: (u64, u64),
}

impl Index {
    /// The index in the store `root`. Nothing is opened yet.
    pub fn new(root: &Path) -> Index {
        Index {
            path: root.join("index.db"),
            lock: root.join("index.lock"),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Whether the database is there and is one.
    pub fn is_sound(&self) -> Result<bool, StoreError> {
        match self.with(|session| session.version()) {
            Ok(version) => Ok(version == VERSION),
            Err(e) if self.is_lost(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Where the record `id` is, if the index knows it.
    pub fn find(&self, id: &RecordId) -> Result<Option<Location>, StoreError> {
        self.with(|session| session.find(id))
    }

    /// Where each of `ids` is, in one go.
    pub fn find_all(&self, ids: &[RecordId]) -> Result<Vec<Option<Location>>, StoreError> {
        self.with(|session| session.find_all(ids))
    }

    /// At most `limit` records of one kind whose ids are from `first` to `last`, in order.
    pub fn between(
        &self,
        first: &RecordId,
        last: &RecordId,
        limit: usize,
    ) -> Result<Vec<RecordId>, StoreError> {
        self.with(|session| session.between(first, last, limit))
    }

    /// To be held from before a pack gets its name until [`Index::add`] has returned.
    pub fn writing(&self) -> Result<Writing, StoreError> {
        let lock = self.open_lock()?;
        lock.lock_shared().map_err(StoreError::write(&self.lock))?;
        Ok(Writing(lock))
    }

    /// Waits until nobody adds a pack, and keeps it so.
    pub fn alone(&self) -> Result<Alone, StoreError> {
        let lock = self.open_lock()?;
        lock.lock().map_err(StoreError::write(&self.lock))?;
        Ok(Alone(lock))
    }

    /// Adds a pack, durably.
    pub fn add(&self, _: &Writing, packed: &Packed) -> Result<(), StoreError> {
        loop {
            let file = self.with(|session| {
                session.add(std::slice::from_ref(packed), false)?;
                Ok(session.file)
            })?;
            if self.file().is_ok_and(|now| now == file) {
                self.fold_log();
                return Ok(());
            }
            self.forget_connections();
        }
    }

    fn fold_log(&self) {
        if fs::metadata(self.beside("-wal")).is_ok_and(|log| log.len() > LONG_LOG) {
            // What was added is safe in the log too.
            let _ = self.with(|session| session.fold_log());
        }
    }

    /// One of the files that SQLite keeps beside the database.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    /// Makes the database anew from what `scan` finds, while nobody adds a pack. Does
    /// nothing if `needed` says, now that nobody else is at it, that all is well.
    pub fn rebuild<R>(
        &self,
        needed: impl FnOnce(&Index) -> Result<bool, StoreError>,
        scan: impl FnOnce() -> Result<(Vec<Packed>, R), StoreError>,
    ) -> Result<Option<R>, StoreError> {
        let _alone = self.alone()?;
        self.forget_connections();
        if !needed(self)? {
            return Ok(None);
        }
        let (packs, found) = scan()?;
        self.forget_connections();
        if !self.path.exists() {
            // The log of a database that is gone would be replayed into the new one.
            for suffix in ["-wal", "-shm"] {
                let path = self.beside(suffix);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(StoreError::write(&path)(e));
                    }
                    _ => {}
                }
            }
        }
        let failed = |source| self.failed(source);
        let mut session = Session::open(&self.path, OpenFlags::SQLITE_OPEN_CREATE, || self.file())
            .or_else(|_| self.reset())
            .map_err(failed)?;
        if session.add(&packs, true).is_err() {
            drop(session);
            session = self.reset().map_err(failed)?;
            session.add(&packs, true).map_err(failed)?;
        }
        Ok(Some(found))
    }

    /// Whether the error means that the database must be made anew.
    pub fn is_lost(&self, error: &StoreError) -> bool {
        let StoreError::Index { source, .. } = error else { return false };
        match source.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::SchemaChanged
                // "no such table"
                | ErrorCode::Unknown,
            ) => true,
            // A column of another type than was written.
            None => !matches!(source, rusqlite::Error::SqliteFailure(..)),
            _ => false,
        }
    }

    /// Drops the connections, so that the next ones are to the file that is there now.
    pub fn forget_connections(&self) {
        self.idle.lock().expect("nothing panics with it held").clear();
    }

    /// Empties a database of which nothing can be read, in place: others may have it open.
    fn reset(&self) -> rusqlite::Result<Session> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(PATIENCE)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, true)?;
        // As SQLite's manual has it: the schema must have been looked at, in vain or not.
        let _ = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        connection.execute_batch("VACUUM")?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, false)?;
        drop(connection);
        Session::open(&self.path, OpenFlags::empty(), || self.file())
    }

    fn with<R>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<R, rusqlite::Error>,
    ) -> Result<R, StoreError> {
        let idle = self.idle.lock().expect("nothing panics with it held").pop();
        let mut session = match idle {
            Some(session) => session,
            None => Session::open(&self.path, OpenFlags::empty(), || self.file())
                .map_err(|source| self.failed(source))?,
        };
        // A session that failed is not used again.
        let done = work(&mut session).map_err(|source| self.failed(source))?;
        self.idle.lock().expect("nothing panics with it held").push(session);
        Ok(done)
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        let path = self.path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                StoreError::NoSpace { path, source: io::ErrorKind::StorageFull.into() }
            }
            _ => StoreError::Index { path, source },
        }
    }

    fn open_lock(&self) -> Result<File, StoreError> {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.lock)
            .map_err(StoreError::write(&self.lock))
    }

    fn file(&self) -> io::Result<(u64, u64)> {
        fs::metadata(&self.path).map(|file| (file.dev(), file.ino()))
    }
}

impl Session {
    /// Opens the database, waiting while another process makes it.
    fn open(
        path: &Path,
        flags: OpenFlags,
        file: impl Fn() -> io::Result<(u64, u64)>,
    ) -> rusqlite::Result<Session> {
        let began = Instant::now();
        loop {
            match Session::open_once(path, flags, &file) {
                // Turning a database to WAL mode does not wait by itself.
                Err(e)
                    if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && began.elapsed() < PATIENCE =>
                {
                    thread::sleep(Duration::from_millis(2));
                }
                opened => return opened,
            }
        }
    }

    fn open_once(
        path: &Path,
        flags: OpenFlags,
        file: impl Fn() -> io::Result<(u64, u64)>,
    ) -> rusqlite::Result<Session> {
        let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        // SQLite opens a file for reading only if it appears just after it could not be
        // opened for writing. Such a connection is of no use.
        if connection.is_readonly(rusqlite::MAIN_DB)? {
            return Err(rusqlite::Error::InvalidPath(path.into()));
        }
        connection.busy_timeout(PATIENCE)?;
        // Closing must not delete the log by name: the name may be another database's by now.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // A plan is made once a statement, not once a look-up, which takes five times as long
        // as the look-up itself: what is bound is a hash, and one is as likely as another.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A pack that somebody was told of must be in the index after a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        // In KiB: names are random, so all of a small index is looked at.
        connection.pragma_update(None, "cache_size", -16_384)?;
        // A look-up must not be planned anew because another id is bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        let file = file().map_err(|_| rusqlite::Error::InvalidPath(path.into()))?;
        Ok(Session { connection, file })
    }

    fn version(&self) -> rusqlite::Result<u32> {
        // Looks at a page of each table too.
        self.connection
            .query_row("SELECT forgotten FROM packs LIMIT 1", [], |_| Ok(()))
            .optional()?;
        self.connection.query_row("SELECT 1 FROM records LIMIT 1", [], |_| Ok(())).optional()?;
        self.connection.query_row("PRAGMA user_version", [], |row| row.get(0))
    }

    fn find(&self, id: &RecordId) -> rusqlite::Result<Option<Location>> {
        let mut query = self.connection.prepare_cached(
            "SELECT name, frame, start, length FROM records JOIN packs ON no = pack
             WHERE id = ?1 AND kind = ?2",
        )?;
        let location = |row: &rusqlite::Row<'_>| {
            Ok(Location {
                pack: PackId::from_bytes(row.get(0)?),
                frame: row.get::<_, i64>(1)? as u64,
                offset: row.get(2)?,
                length: row.get(3)?,
            })
        };
        query.query_row(params![id.id, id.kind as u8], location).optional()
    }

    fn between(
        &self,
        first: &RecordId,
        last: &RecordId,
        limit: usize,
    ) -> rusqlite::Result<Vec<RecordId>> {
        let mut query = self.connection.prepare_cached(
            "SELECT id FROM records WHERE id BETWEEN ?1 AND ?2 AND kind = ?3
             ORDER BY id LIMIT ?4",
        )?;
        let kind = first.kind;
        let rows = query
            .query_map(params![first.id, last.id, kind as u8, limit as i64], |row| {
                Ok(RecordId { kind, id: row.get(0)? })
            })?;
        rows.collect()
    }

    /// In one transaction, which saves its locks for each.
    fn find_all(&mut self, ids: &[RecordId]) -> rusqlite::Result<Vec<Option<Location>>> {
        self.connection.execute_batch("BEGIN")?;
        let found = ids.iter().map(|id| self.find(id)).collect();
        self.connection.execute_batch("COMMIT")?;
        found
    }

    /// Moves the log's pages to the database and empties it, unless somebody is reading.
    fn fold_log(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(Duration::ZERO)?;
        // Says whether it was kept from it, which is no error: the next writer does it.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.connection.busy_timeout(PATIENCE)
    }

    /// Adds packs; with `anew`, to an empty database.
    fn add(&mut self, packs: &[Packed], anew: bool) -> rusqlite::Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if anew {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        for packed in packs {
            insert(&transaction, packed)?;
        }
        transaction.commit()
    }
}

/// Adds a pack, and those of its records that are not known yet.
fn insert(transaction: &Transaction<'_>, packed: &Packed) -> rusqlite::Result<()> {
    let Packed { pack, footer, size } = packed;
    transaction.execute(
        "INSERT OR IGNORE INTO packs (name, size) VALUES (?1, ?2)",
        params![pack.as_bytes(), *size as i64],
    )?;
    let no: i64 = transaction.query_row(
        "SELECT no FROM packs WHERE name = ?1",
        [pack.as_bytes()],
        |row| row.get(0),
    )?;
    // In the order of the keys, which is several times faster.
    let mut records: Vec<_> = footer.records.iter().collect();
    records.sort_unstable_by_key(|record| record.id.id);
    let mut insert = transaction
        .prepare_cached("INSERT OR IGNORE INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for record in records {
        let frame = footer.frames[record.frame as usize].offset as i64;
        let (kind, start) = (record.id.kind as u8, record.offset);
        insert.execute(params![record.id.id, kind, no, frame, start, record.length])?;
    }
    Ok(())
}
