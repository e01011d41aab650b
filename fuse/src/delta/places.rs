//! Where the names of a node stand. Almost every node has one name, which costs no allocation:
//! a name is told by its directory and by its hash there, as an entry of [`Children`] has it.
//!
//! [`Children`]: super::index::Children

/// A directory, and the hash of a name in it.
type Place = (u64, u64);

/// The places of one node.
#[derive(Debug, Clone, Default)]
pub struct Places(Few);

#[derive(Debug, Clone, Default)]
enum Few {
    #[default]
    None,
    One(Place),
    /// Two or more, in the order in which they came.
    Many(Vec<Place>),
}

impl Places {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Place> {
        let all = match &self.0 {
            Few::None => &[],
            Few::One(place) => std::slice::from_ref(place),
            Few::Many(places) => &places[..],
        };
        all.iter().copied()
    }

    /// The one that came last; of a directory the only one.
    pub fn last(&self) -> Option<Place> {
        match &self.0 {
            Few::None => None,
            Few::One(place) => Some(*place),
            Few::Many(places) => places.last().copied(),
        }
    }

    /// One more.
    pub fn add(&mut self, place: Place) {
        match &mut self.0 {
            Few::None => self.0 = Few::One(place),
            Few::One(first) => self.0 = Few::Many(vec![*first, place]),
            Few::Many(places) => places.push(place),
        }
    }

    /// One less, if it is one.
    pub fn remove(&mut self, place: Place) {
        match &mut self.0 {
            Few::One(only) if *only == place => self.0 = Few::None,
            Few::None | Few::One(_) => {}
            Few::Many(places) => {
                // The last first: that is the one that a file with very many names just got.
                if let Some(at) = places.iter().rposition(|other| *other == place) {
                    places.remove(at);
                }
                if let [only] = places[..] {
                    self.0 = Few::One(only);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_and_go_in_any_order() {
        let mut places = Places::default();
        let all = [(1, 10), (2, 20), (3, 30)];
        all.into_iter().for_each(|place| places.add(place));
        assert_eq!(places.iter().collect::<Vec<_>>(), all);
        places.remove((9, 9));
        places.remove((3, 30));
        assert_eq!(places.last(), Some((2, 20)));
        places.remove((1, 10));
        assert_eq!(places.iter().collect::<Vec<_>>(), [(2, 20)]);
        places.remove((1, 10));
        places.remove((2, 20));
        assert_eq!((places.iter().count(), places.last()), (0, None));
    }

    #[test]
    fn one_place_costs_no_more_than_a_name_did() {
        assert_eq!(size_of::<Places>(), 24);
    }
}
