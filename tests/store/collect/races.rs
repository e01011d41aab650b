//! The collector and others at the store at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;

#[test]
fn a_hold_keeps_the_collector_away_and_it_says_whose() {
    let (f, kept) = with_garbage();
    let before = state(&f);
    let captured = f.store.capture(&f.input("gone1")).unwrap();
    let roots = || Ok(no_roots());
    let other = f.reopen();
    let hasty = || Collect { patience: Duration::from_millis(50), ..asked(&roots) };
    let refused = other.collect(&hasty()).unwrap_err();
    let StoreError::InUse { ref by, .. } = refused else { panic!("{refused}") };
    assert!(by.contains(&format!("({})", std::process::id())), "{by}");
    // What was copied in vain is gone as well.
    assert_eq!(state(&f), before);
    f.store.set_ref("captured", &captured.tree).unwrap();
    drop(captured);
    other.collect(&hasty()).unwrap();
    for (name, dir) in [("kept", "kept"), ("captured", "gone1")] {
        let tree = other.get_ref(name).unwrap().unwrap();
        assert_restores(&f, &other, &tree, &describe(&f.input(dir)), "out");
    }
    assert!(f.store.tree(&kept).is_ok());
}

/// Tells when somebody is waited for.
#[derive(Default)]
struct Waiting(AtomicBool);

impl zagi::event::Events for Waiting {
    fn emit(&self, event: zagi::event::Event) {
        if matches!(event, zagi::event::Event::Warning(text) if text.starts_with("waiting for ")) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

#[test]
fn what_becomes_needed_while_packs_are_rewritten_stays() {
    for (seed, as_lease) in [(1, false), (2, true)] {
        let (f, kept) = with_garbage();
        let gone = f.store.capture(&f.input("gone1")).unwrap().tree;
        let waiting = std::sync::Arc::new(Waiting::default());
        let hold = f.store.hold().unwrap();
        std::thread::scope(|scope| {
            let collector = f.reopen().with_events(waiting.clone());
            let collecting = scope.spawn(move || {
                let roots = || Ok(no_roots());
                collector.collect(&asked(&roots)).unwrap()
            });
            let begun = Instant::now();
            while !waiting.0.load(Ordering::SeqCst) {
                assert!(begun.elapsed() < Duration::from_secs(20), "it does not wait");
                std::thread::sleep(Duration::from_millis(2));
            }
            // It has marked, and rewritten. Now all of this is known to be in the store.
            let again = f.store.capture(&f.input("gone1")).unwrap();
            assert_eq!((again.tree, again.new_bytes), (gone, 0), "seed {seed}");
            match as_lease {
                true => f.store.set_lease("again", &gone, NOW).unwrap(),
                false => f.store.set_ref("again", &gone).unwrap(),
            }
            drop((again, hold));
            collecting.join().unwrap();
        });
        for store in [&f.store, &f.reopen()] {
            for (tree, dir) in [(kept, "kept"), (gone, "gone1")] {
                assert_restores(&f, store, &tree, &describe(&f.input(dir)), "out");
            }
        }
        // Whatever was copied in vain goes the next time, and nothing else is lost.
        let other = f.reopen();
        collect(&other);
        fs::remove_file(f.path("store/index.db")).unwrap();
        for (tree, dir) in [(kept, "kept"), (gone, "gone1")] {
            assert_restores(&f, &f.reopen(), &tree, &describe(&f.input(dir)), "out");
        }
    }
}

#[test]
fn collectors_captures_and_readers_at_once() {
    let f = Fixture::new();
    let kept = capture(&f, &f.store, "kept", 1, 60);
    f.store.set_ref("kept", &kept).unwrap();
    let expected = describe(&f.input("kept"));
    let dirs: Vec<_> = (0..3).map(|n| format!("own{n}")).collect();
    for (n, dir) in (0..).zip(&dirs) {
        // Much of each is in the others too.
        capture(&f, &f.store, dir, 5 + n % 2, 40);
    }
    let stop = AtomicBool::new(false);
    let stopped = || stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let (f, expected, stopped) = (&f, &expected, &stopped);
        for dir in &dirs {
            scope.spawn(move || {
                let store = f.reopen();
                let own = describe(&f.input(dir));
                for round in 0..30 {
                    let tree = {
                        let captured = store.capture(&f.input(dir)).unwrap();
                        store.set_ref(dir, &captured.tree).unwrap();
                        captured.tree
                    };
                    let store = if round % 3 == 0 { &f.reopen() } else { &store };
                    assert_restores(f, store, &tree, &own, &format!("out {dir}"));
                    store.remove_ref(dir).unwrap();
                }
            });
        }
        let readers = (0..2).map(|n| {
            scope.spawn(move || {
                let store = f.reopen();
                while !stopped() {
                    assert_restores(f, &store, &kept, expected, &format!("reader {n}"));
                }
            })
        });
        let collectors = (0..2).map(|_| {
            scope.spawn(move || {
                let store = f.reopen();
                let roots = || Ok(no_roots());
                let mut removed = 0;
                while !stopped() {
                    match store.collect(&asked(&roots)) {
                        Ok(collected) => removed += self::removed(&collected, "packs"),
                        Err(StoreError::InUse { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                removed
            })
        });
        let (readers, collectors): (Vec<_>, Vec<_>) = (readers.collect(), collectors.collect());
        std::thread::sleep(Duration::from_secs(6));
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        let removed: u64 = collectors.into_iter().map(|collector| collector.join().unwrap()).sum();
        assert!(removed > 3, "{removed} packs were removed: nothing was tried");
    });
    assert_restores(&f, &f.reopen(), &kept, &expected, "out");
    collect(&f.reopen());
    assert_restores(&f, &f.reopen(), &kept, &expected, "out");
}
