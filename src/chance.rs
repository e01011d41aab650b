//! Sound bytes, changed by chance: what tests of readers begin with.

#[cfg(test)]
use std::ops::Range;

/// Numbers by chance, from a seed.
pub struct Chance(blake3::OutputReader);

impl Chance {
    /// By this seed.
    pub fn new(seed: u64) -> Chance {
        Chance(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % n.max(1) as u64) as usize
    }

    fn range(&mut self, length: usize) -> Range<usize> {
        let begin = self.below(length + 1);
        let most = [2, 16, length - begin][self.below(3)].min(length - begin);
        begin..begin + self.below(most + 1)
    }

    /// `sound`, changed in one to four places: bytes that are others, gone, there twice, taken from
    /// another place or from `others`.
    pub fn changed(&mut self, sound: &[u8], others: &[&[u8]]) -> Vec<u8> {
        const TELLING: &[u8] = b"\0\t\n\r \"'#$%,.-/0123456789:;=Aaf[\\]{}\x7f\xc3\xff";
        let mut bytes = sound.to_vec();
        for _ in 0..1 + self.below(4) {
            let place = self.range(bytes.len());
            let by = match self.below(5) {
                0 => Vec::new(),
                1 => vec![TELLING[self.below(TELLING.len())]; place.len().max(1)],
                2 => [&bytes[place.clone()], &bytes[place.clone()]].concat(),
                3 => bytes[self.range(bytes.len())].to_vec(),
                _ => {
                    let other = others.get(self.below(others.len())).copied().unwrap_or(sound);
                    other[self.range(other.len())].to_vec()
                }
            };
            bytes.splice(place, by);
        }
        bytes
    }
}

/// Tries so many changes of each of `corpus`, and as it is; a failure names its seed, which
/// `ZAGI_TEST_SEED` sets.
pub fn changes(times: u64, corpus: &[&[u8]], mut each: impl FnMut(&[u8])) {
    let first = std::env::var("ZAGI_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    for sound in corpus {
        each(sound);
        for seed in first.unwrap_or(0)..first.unwrap_or(0) + times {
            let bytes = Chance::new(seed).changed(sound, corpus);
            let tell = Tell(seed, &bytes);
            each(&bytes);
            std::mem::forget(tell);
        }
    }
}

/// Says what it was, where it does not come to its end.
struct Tell<'b>(u64, &'b [u8]);

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        let text = format!("ZAGI_TEST_SEED={}: {}\n", self.0, self.1.escape_ascii());
        let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
    }
}
