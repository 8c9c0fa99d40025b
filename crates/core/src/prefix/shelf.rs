//! What one server holds, in the order in which it was used.

use alloc::vec::Vec;
use core::hash::BuildHasherDefault;

use hashbrown::HashMap;

use super::AsItIs;

/// The end of the list on either side.
const NOBODY: u32 = u32::MAX;

/// A set of hashes of bounded size that knows which was used least recently: a list linked through
/// an array, because a use takes a hash out of the middle.
#[derive(Debug)]
pub(super) struct Shelf {
    capacity: usize,
    places: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    books: Vec<Book>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Book {
    hash: u64,
    older: u32,
    newer: u32,
}

impl Shelf {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            places: HashMap::default(),
            books: Vec::new(),
            free: Vec::new(),
            oldest: NOBODY,
            newest: NOBODY,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Makes `hash` the newest, if it is there.
    pub(super) fn touch(&mut self, hash: u64) -> bool {
        let Some(&at) = self.places.get(&hash) else { return false };
        if at != self.newest {
            self.unlink(at);
            self.link(at);
        }
        true
    }

    /// Adds a hash that is not there, as the newest, if there is room.
    pub(super) fn add(&mut self, hash: u64) -> bool {
        if self.is_full() {
            return false;
        }
        let book = Book { hash, older: NOBODY, newer: NOBODY };
        let at = match self.free.pop() {
            Some(at) => {
                self.books[at as usize] = book;
                at
            }
            None => {
                self.books.push(book);
                (self.books.len() - 1) as u32
            }
        };
        self.places.insert(hash, at);
        self.link(at);
        true
    }

    /// Takes the oldest out.
    pub(super) fn evict(&mut self) -> Option<u64> {
        let at = self.oldest;
        let hash = self.books.get(at as usize)?.hash;
        self.unlink(at);
        self.places.remove(&hash);
        self.free.push(at);
        Some(hash)
    }

    fn unlink(&mut self, at: u32) {
        let Book { older, newer, .. } = self.books[at as usize];
        match self.books.get_mut(older as usize) {
            Some(book) => book.newer = newer,
            None => self.oldest = newer,
        }
        match self.books.get_mut(newer as usize) {
            Some(book) => book.older = older,
            None => self.newest = older,
        }
    }

    fn link(&mut self, at: u32) {
        let older = self.newest;
        match self.books.get_mut(older as usize) {
            Some(book) => book.newer = at,
            None => self.oldest = at,
        }
        let book = &mut self.books[at as usize];
        (book.older, book.newer) = (older, NOBODY);
        self.newest = at;
    }
}
