//! What changed, in order: for those who want to know without looking at everything.
//!
//! Every operation that changes what a path shows leaves a *note* and gives it the next
//! *position*. Whoever was told a position can ask what came after it. Of one thing there is one
//! note, the newest; of all notes the newest [`NOTES`] are kept, and a question that reaches
//! further back has no answer. Positions mean something in one *session*: from the opening of an
//! overlay to its end.
//!
//! A note is left after its change can be seen, and before whoever made it is answered. So who
//! asks, and then looks, either saw the change or is told of it with the next question; a note
//! left before could be told too early and never again.
//!
//! Writing is to cost nothing here. An *epoch* ends whenever somebody is told a position. What
//! was noted in this epoch need not be noted again: nobody was told yet, and whoever is told next
//! is told of it. So an inode remembers when it was last noted ([`Noted`]), and a write compares
//! two numbers.
//!
//! What is noted of content is the inode, whose names are looked up when somebody asks; of names
//! the directory and the name. A directory that came or went stands for everything below it.
//! That a directory's own times change with its entries is not noted.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many notes are kept; about 150 bytes each.
pub const NOTES: usize = 32_768;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Something stands at a name now, whether or not something else stood there.
    Created,
    /// The content is another.
    Changed,
    /// Mode, owner, times or extended attributes are others.
    Attributes,
    /// The name is gone.
    Removed,
}

/// When an inode was last noted, and as what: twice the epoch, and one if as new content.
#[derive(Debug, Default)]
pub(crate) struct Noted(AtomicU64);

/// What a note is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum About {
    /// An inode, under all its names.
    Node(u64),
    /// A name in a directory.
    Name(u64, Arc<[u8]>),
}

/// One note.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    /// What it is about.
    pub about: About,
    /// What happened last.
    pub kind: EventKind,
    /// A directory is there, or was until it went.
    pub directory: bool,
    /// All that is or was below the name may be something else.
    pub below: bool,
    /// A directory came here with what is in it.
    pub arrived: bool,
}

/// The notes of one overlay.
#[derive(Debug)]
pub struct Journal {
    session: u128,
    epoch: AtomicU64,
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Of the newest note.
    position: u64,
    /// The last one that somebody was told.
    told: u64,
    /// Of the newest note that is not kept any more.
    forgotten: u64,
    /// Sorted by position. `None`: there is a newer one about the same.
    notes: VecDeque<(u64, Option<Note>)>,
    newest: HashMap<About, u64>,
}

impl Journal {
    /// An empty one, of a session that never was before.
    pub(crate) fn new() -> Journal {
        // The keys of the standard library's hasher are the operating system's randomness.
        let random = |n: u8| u128::from(RandomState::new().hash_one((n, std::process::id())));
        Journal {
            session: random(0) << 64 | random(1),
            epoch: AtomicU64::new(1),
            state: Mutex::default(),
            more: Condvar::new(),
        }
    }

    /// What tells this session from all others.
    pub fn session(&self) -> u128 {
        self.session
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way but for a lack of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The position of now.
    pub fn position(&self) -> u64 {
        let mut state = self.state();
        self.tell(&mut state)
    }

    /// Ends the epoch: what changes from now on is noted after the position that is returned.
    fn tell(&self, state: &mut State) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        state.told = state.position;
        state.position
    }

    /// Waits until there is something after `position`, or `timeout` is over; says whether
    /// there is.
    pub fn wait(&self, position: u64, timeout: Duration) -> bool {
        let state = self.state();
        let waited = self.more.wait_timeout_while(state, timeout, |s| s.position <= position);
        waited.unwrap_or_else(PoisonError::into_inner).0.position > position
    }

    /// The notes after `position`, and the position of now. `None`: nobody knows any more, or
    /// the position was never told.
    pub(crate) fn since(&self, position: u64) -> Option<(u64, Vec<Note>)> {
        let mut state = self.state();
        if position < state.forgotten || position > state.position {
            return None;
        }
        let now = self.tell(&mut state);
        let start = state.notes.partition_point(|(at, _)| *at <= position);
        let notes = state.notes.range(start..).filter_map(|(_, note)| note.clone());
        Some((now, notes.collect()))
    }

    /// Notes that the inode `ino`, last noted as `noted` says, is another.
    pub(crate) fn node(&self, ino: u64, noted: &Noted, kind: EventKind) {
        let content = u64::from(kind == EventKind::Changed);
        let (last, epoch) = (noted.0.load(Ordering::SeqCst), self.epoch.load(Ordering::SeqCst));
        if last >> 1 == epoch && last & 1 >= content {
            return;
        }
        let about = About::Node(ino);
        self.add(Note { about, kind, directory: false, below: false, arrived: false }, Some(noted));
    }

    /// Notes what happened to a name. `noted` belongs to the inode that is there now, whose
    /// changes the note speaks of, too.
    pub(crate) fn name(&self, note: Note, noted: Option<&Noted>) {
        self.add(note, noted);
    }

    fn add(&self, mut note: Note, noted: Option<&Noted>) {
        let mut state = self.state();
        state.position += 1;
        let position = state.position;
        if let Some(before) = state.newest.insert(note.about.clone(), position) {
            let untold = before > state.told;
            if let Some(before) = state.take(before) {
                // The new note stands for the old one, too, whoever asks.
                note.below |= before.below;
                note.arrived |= before.arrived;
                if untold && matches!(note.about, About::Node(_)) {
                    note.kind = stronger(before.kind, note.kind);
                }
            }
        }
        if let Some(noted) = noted {
            // The epoch does not end while the state is locked.
            let epoch = self.epoch.load(Ordering::SeqCst);
            let content = u64::from(note.kind != EventKind::Attributes);
            noted.0.store(epoch << 1 | content, Ordering::SeqCst);
        }
        state.notes.push_back((position, Some(note)));
        state.shrink();
        drop(state);
        self.more.notify_all();
    }
}

fn stronger(one: EventKind, other: EventKind) -> EventKind {
    if one == EventKind::Changed { one } else { other }
}

impl State {
    fn take(&mut self, position: u64) -> Option<Note> {
        let at = self.notes.binary_search_by_key(&position, |(at, _)| *at).ok()?;
        self.notes[at].1.take()
    }

    /// Lets go of the oldest notes beyond [`NOTES`], and of the places of replaced ones.
    fn shrink(&mut self) {
        while self.newest.len() > NOTES {
            let Some((position, note)) = self.notes.pop_front() else { return };
            if let Some(note) = note {
                self.newest.remove(&note.about);
                self.forgotten = position;
            }
        }
        if self.notes.len() > 2 * self.newest.len() + 64 {
            self.notes.retain(|(_, note)| note.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, kind: EventKind) -> Note {
        let about = About::Name(1, name.as_bytes().into());
        Note { about, kind, directory: false, below: false, arrived: false }
    }

    fn about(notes: &[Note]) -> Vec<About> {
        notes.iter().map(|note| note.about.clone()).collect()
    }

    #[test]
    fn a_file_written_again_and_again_is_one_note_until_somebody_asks() {
        let (journal, noted) = (Journal::new(), Noted::default());
        let start = journal.position();
        (0..1000).for_each(|_| journal.node(7, &noted, EventKind::Changed));
        let (first, notes) = journal.since(start).expect("it is kept");
        assert_eq!(about(&notes), [About::Node(7)]);
        assert_eq!(first, start + 1, "the others left no note");
        // Somebody was told: the next write is news.
        journal.node(7, &noted, EventKind::Changed);
        let (second, notes) = journal.since(first).expect("it is kept");
        assert_eq!((about(&notes), second), (vec![About::Node(7)], first + 1));
        assert_eq!(about(&journal.since(start).expect("it is kept").1), [About::Node(7)]);
        assert!(journal.since(second).expect("it is kept").1.is_empty());
    }

    #[test]
    fn new_content_is_told_although_attributes_were_noted() {
        let (journal, noted) = (Journal::new(), Noted::default());
        journal.node(7, &noted, EventKind::Attributes);
        journal.node(7, &noted, EventKind::Changed);
        journal.node(7, &noted, EventKind::Attributes);
        let (_, notes) = journal.since(0).expect("it is kept");
        assert_eq!(notes.len(), 1);
        assert_eq!(notes[0].kind, EventKind::Changed);
    }

    #[test]
    fn a_position_that_was_never_told_or_is_too_old_has_no_answer() {
        let journal = Journal::new();
        assert!(journal.since(1).is_none());
        for n in 0..NOTES + 10 {
            journal.name(named(&n.to_string(), EventKind::Created), None);
        }
        assert!(journal.since(0).is_none() && journal.since(9).is_none());
        let (now, notes) = journal.since(10).expect("the newest are kept");
        assert_eq!((now as usize, notes.len()), (NOTES + 10, NOTES));
        let state = journal.state();
        assert!(state.notes.len() <= 2 * NOTES + 64 && state.newest.len() == NOTES);
    }

    #[test]
    fn memory_stays_bounded_while_few_things_change_for_ever() {
        let journal = Journal::new();
        journal.name(named("first", EventKind::Created), None);
        for n in 0..100_000 {
            journal.name(named(["a", "b", "c"][n % 3], EventKind::Created), None);
        }
        assert!(journal.state().notes.len() < 100);
        assert_eq!(journal.since(0).expect("nothing was forgotten").1.len(), 4);
    }

    #[test]
    fn what_was_below_a_name_is_not_forgotten_with_a_newer_note() {
        let journal = Journal::new();
        let gone = Note { below: true, directory: true, ..named("d", EventKind::Removed) };
        journal.name(gone, None);
        journal.name(named("d", EventKind::Created), None);
        let (_, notes) = journal.since(0).expect("it is kept");
        assert_eq!(notes.len(), 1);
        assert!(notes[0].below && !notes[0].directory && notes[0].kind == EventKind::Created);
    }

    #[test]
    fn whoever_waits_is_woken() {
        let journal = Arc::new(Journal::new());
        assert!(!journal.wait(0, Duration::from_millis(1)));
        let waiter = {
            let journal = Arc::clone(&journal);
            std::thread::spawn(move || journal.wait(0, Duration::from_secs(60)))
        };
        journal.name(named("a", EventKind::Created), None);
        assert!(waiter.join().expect("it ends"));
    }

    #[test]
    fn sessions_differ() {
        assert_ne!(Journal::new().session(), Journal::new().session());
    }
}
