//! Many threads put, read and release at once.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::specimen::{Specimen, sandbox};
use pages::{Arena, ArenaError, Domain, HeapArena, Heat, Store, StoreStats};

const THREADS: u16 = 4;
const ROUNDS: u16 = 25;

/// Each thread puts sandboxes of which `of` says the content, keeps one while it puts the next, reads both, and
/// releases; in the end nothing is left.
#[track_caller]
fn check(of: fn(thread: u16, round: u16) -> Vec<Specimen>) {
    let store = &Store::new(HeapArena::new(u64::MAX), [9; 32]);
    let sandbox_of = &|thread, round: u16| {
        let heat = if round.is_multiple_of(2) { Heat::Hot } else { Heat::Cold };
        sandbox(store, &Domain::named("a"), heat, &of(thread, round))
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut kept = sandbox_of(thread, 0);
                for round in 1..ROUNDS {
                    let next = sandbox_of(thread, round);
                    kept.assert_reads_back(store, &[]);
                    store.release(std::mem::replace(&mut kept, next).manifest);
                    kept.assert_reads_back(store, &[]);
                }
                store.release(kept.manifest);
            });
        }
    });
    assert_eq!(store.stats(), Default::default());
}

#[test]
fn threads_that_put_the_same_pages_at_once_lose_none() {
    check(|_, round| (0..40).map(|n| Specimen::Text(round / 3 * 20 + n)).collect());
}

#[test]
fn threads_with_their_own_pages_do_not_disturb_each_other() {
    check(|thread, round| (0..40).map(|n| Specimen::Random(thread * 1000 + round + n)).collect());
}

/// What happens the next time the arena is used.
type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// An arena in which something happens in the middle of a put: the store holds no lock then.
struct HookedArena {
    heap: HeapArena,
    on_put: Hook,
    on_get: Hook,
}

fn run(hook: &Hook) {
    let happens = hook.lock().unwrap().take();
    happens.into_iter().for_each(|happens| happens());
}

impl Arena for HookedArena {
    type Blob = Box<[u8]>;

    fn put(&self, bytes: &[u8], align: usize) -> Result<Box<[u8]>, ArenaError> {
        run(&self.on_put);
        self.heap.put(bytes, align)
    }

    fn get<'a>(&'a self, blob: &'a Box<[u8]>) -> &'a [u8] {
        run(&self.on_get);
        self.heap.get(blob)
    }

    fn remove(&self, blob: Box<[u8]>) {
        self.heap.remove(blob);
    }

    fn used_bytes(&self) -> u64 {
        self.heap.used_bytes()
    }

    fn held_bytes(&self) -> u64 {
        self.heap.held_bytes()
    }
}

fn hooked_store() -> Arc<Store<HookedArena>> {
    let arena =
        HookedArena { heap: HeapArena::new(u64::MAX), on_put: Hook::default(), on_get: Hook::default() };
    Arc::new(Store::new(arena, [1; 32]))
}

const PAGES: [Specimen; 3] = [Specimen::Text(1), Specimen::Random(2), Specimen::Text(3)];

#[test]
fn pages_that_another_puts_meanwhile_are_kept_once() {
    let (store, domain) = (hooked_store(), Domain::named("a"));
    let (other, (sender, receiver)) = (Arc::clone(&store), mpsc::channel());
    let puts_the_same =
        move || sender.send(sandbox(&other, &Domain::named("a"), Heat::Cold, &PAGES)).unwrap();
    *store.arena().on_put.lock().unwrap() = Some(Box::new(puts_the_same));
    let first = sandbox(&store, &domain, Heat::Hot, &PAGES);
    let second = receiver.recv().unwrap();
    assert_eq!((store.stats().pages, store.stats().groups), (3, 2));
    assert_eq!(first.manifest, second.manifest);
    store.release(first.manifest);
    second.assert_reads_back(&store, &[]);
    store.release(second.manifest);
    assert_eq!(store.stats(), StoreStats::default());
}

#[test]
fn pages_that_are_released_while_they_are_compared_are_put_anew() {
    let (store, domain) = (hooked_store(), Domain::named("a"));
    let (other, first) = (Arc::clone(&store), sandbox(&store, &domain, Heat::Cold, &PAGES));
    let (sender, receiver) = mpsc::channel();
    let slots_get_other_pages = move || {
        other.release(first.manifest);
        let pages = [Specimen::Text(7), Specimen::Random(8), Specimen::Text(9)];
        sender.send(sandbox(&other, &Domain::named("a"), Heat::Cold, &pages)).unwrap();
    };
    *store.arena().on_get.lock().unwrap() = Some(Box::new(slots_get_other_pages));
    let second = sandbox(&store, &domain, Heat::Hot, &PAGES);
    second.assert_reads_back(&store, &[]);
    let third = receiver.recv().unwrap();
    third.assert_reads_back(&store, &[]);
    assert_eq!((store.stats().pages, store.stats().strays), (6, 0));
    store.release(second.manifest);
    store.release(third.manifest);
    assert_eq!(store.stats(), StoreStats::default());
}
