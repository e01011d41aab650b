//! A bounded set of open files: one descriptor an inode would soon be too many.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 8;

/// Open files by key; those used longest ago are closed first.
#[derive(Debug)]
pub struct Descriptors<K = u64> {
    shards: [Mutex<Shard<K>>; SHARDS],
    capacity: usize,
}

#[derive(Debug)]
struct Shard<K> {
    files: HashMap<K, (Arc<File>, u64)>,
    clock: u64,
}

impl<K: Hash + Eq + Clone> Descriptors<K> {
    /// Keeps about `capacity` files open.
    pub fn new(capacity: usize) -> Descriptors<K> {
        let shard = || Mutex::new(Shard { files: HashMap::new(), clock: 0 });
        Descriptors {
            shards: std::array::from_fn(|_| shard()),
            capacity: (capacity / SHARDS).max(1),
        }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K>> {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key) as usize;
        // A shard is whole after every statement: a panic elsewhere does not spoil it.
        self.shards[hash % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file of `key`, if it is open.
    pub fn get(&self, key: K) -> Option<Arc<File>> {
        let mut shard = self.shard(&key);
        shard.clock += 1;
        let now = shard.clock;
        let (file, used) = shard.files.get_mut(&key)?;
        *used = now;
        Some(Arc::clone(file))
    }

    /// The open file of `key`, opened by `open` if it is not.
    pub fn get_or_open<E>(
        &self,
        key: K,
        open: impl FnOnce() -> Result<File, E>,
    ) -> Result<Arc<File>, E> {
        if let Some(file) = self.get(key.clone()) {
            return Ok(file);
        }
        let file = Arc::new(open()?);
        self.put(key, Arc::clone(&file));
        Ok(file)
    }

    /// Keeps `file` open under `key`.
    pub fn put(&self, key: K, file: Arc<File>) {
        let mut shard = self.shard(&key);
        shard.clock += 1;
        let now = shard.clock;
        shard.files.insert(key, (file, now));
        if shard.files.len() > self.capacity {
            let oldest = shard.files.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                shard.files.remove(&oldest);
            }
        }
    }

    /// Stops keeping the file of `key` open.
    pub fn remove(&self, key: K) {
        self.shard(&key).files.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_open_files_is_bounded_and_the_latest_stay() {
        let files = Descriptors::new(SHARDS * 4);
        for key in 0..1000_u64 {
            files.get_or_open(key, || File::open("/dev/null")).expect("/dev/null opens");
        }
        let open = (0..1000).filter(|key| files.get(*key).is_some()).count();
        assert!(open <= SHARDS * 4, "{open} are open");
        assert!(files.get(999).is_some());
        files.remove(999);
        assert!(files.get(999).is_none());
    }
}
