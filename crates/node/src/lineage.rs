//! Lineage: sandboxes of one function version have much in common. Some of them, the first that sleeps and then one of
//! every few dozen, are bases of the others, whose pages are kept as patches against theirs (base sandboxes: Medes,
//! EuroSys '22). What a base is, and how it is found in, stands in `base.rs` and `likeness.rs`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pages::{BaseImage, Domain, Fingerprinter, Manifest};

use crate::PageStore;
use crate::base::{Base, BaseRegistry, Portrait};

/// With whom a sandbox has something in common.
pub(crate) struct Ties {
    /// With whom its pages may be shared.
    pub(crate) domain: Domain,
    /// Sandboxes with the same key touch the same pages; `None`: nobody else has this layout.
    pub(crate) layout_key: Option<u64>,
    /// Its part in what others like it share; `None`: it shares nothing, or nobody is like it.
    pub(crate) lineage: Option<Lineage>,
}

/// Who is alike. Nothing is shared across sharing domains, whatever else is the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lineage {
    pub(crate) domain: Domain,
    pub(crate) kin: Kin,
}

/// What sandboxes that are alike have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kin {
    /// The secret of a pinned layout: pages that correspond lie at the same addresses.
    Layout(u64),
    /// The program, and the name it was launched under (that of the function), with a random layout. Arguments and
    /// environment differ between sandboxes of one function (sockets, ports, log streams), so they do not count. Who
    /// launches other code under the same name in the same domain gets patches that are larger, and right.
    Program { name: String, program: OsString },
}

/// What a sandbox that falls asleep is to its lineage.
pub(crate) enum Role {
    /// It shares nothing, or nobody is like it.
    Alone,
    /// The base of others to come; these are found by content if there is a fingerprinter, else by place.
    Base(Option<Fingerprinter>),
    /// It has the layout of this base: what is alike lies at the same address.
    ByPlace(Arc<Base>),
    /// Its layout is its own: what is alike is to be found in one of these.
    ByContent(Vec<Arc<Base>>),
}

/// The bases of a node.
pub(crate) struct Lineages {
    store: Arc<PageStore>,
    registry: Arc<BaseRegistry>,
    next_image: AtomicU32,
    /// When a lineage has more of them, the next one becomes another base.
    sleepers_per_base: usize,
    members: Mutex<HashMap<Lineage, Members>>,
}

/// Sandboxes of one lineage.
#[derive(Default)]
struct Members {
    /// They stay in the store while any of the lineage sleeps, also when their own sandboxes are awake again or dead.
    bases: Vec<Arc<Base>>,
    /// Those that sleep, bases included.
    sleepers: usize,
}

impl Members {
    fn needs_base(&self, sleepers_per_base: usize) -> bool {
        self.bases.is_empty() || self.sleepers > sleepers_per_base.saturating_mul(self.bases.len())
    }
}

impl Lineages {
    pub(crate) fn new(store: Arc<PageStore>, sleepers_per_base: usize) -> Lineages {
        let (registry, members) = (Arc::default(), Mutex::default());
        Lineages { store, registry, next_image: AtomicU32::new(0), sleepers_per_base, members }
    }

    /// How many bases there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().map(|members| members.bases.len()).sum()
    }

    /// What the next one that falls asleep is.
    pub(crate) fn role(&self, lineage: &Lineage) -> Role {
        let lineages = self.lock();
        let members = lineages.get(lineage);
        let is_enough = members.filter(|members| !members.needs_base(self.sleepers_per_base));
        match (is_enough.map(|members| &members.bases[..]), &lineage.kin) {
            (None | Some([]), Kin::Layout(_)) => Role::Base(None),
            (None | Some([]), Kin::Program { .. }) => {
                Role::Base(Some(self.store.fingerprinter(&lineage.domain)))
            }
            // All bases have these pages at these addresses; the last one was alive most recently.
            (Some([.., last]), Kin::Layout(_)) => Role::ByPlace(Arc::clone(last)),
            (Some(bases), Kin::Program { .. }) => Role::ByContent(bases.to_vec()),
        }
    }

    /// What those with a pinned layout are encoded against.
    pub(crate) fn base_by_place(&self, lineage: &Lineage) -> Option<Arc<Base>> {
        let lineages = self.lock();
        let last = lineages.get(lineage)?.bases.last();
        last.filter(|_| matches!(lineage.kin, Kin::Layout(_))).map(Arc::clone)
    }

    /// A sandbox of the lineage fell asleep. It has portraits, one for each process, if it was put as a base; it
    /// becomes one unless another has come first.
    pub(crate) fn slept(
        &self,
        lineage: &Lineage,
        manifests: &[Arc<Manifest>],
        portraits: Option<Vec<Portrait>>,
    ) {
        let mut lineages = self.lock();
        let members = lineages.entry(lineage.clone()).or_default();
        let portraits = portraits.filter(|_| members.needs_base(self.sleepers_per_base));
        members.sleepers += 1;
        let Some(mut portraits) = portraits else { return };
        let images = |_| BaseImage(self.next_image.fetch_add(1, Ordering::Relaxed));
        let processes = manifests.iter().zip(&mut portraits).zip((0..).map(images));
        let processes = processes.map(|((manifest, portrait), image)| portrait.process(manifest, image));
        let (store, registry) = (Arc::clone(&self.store), Arc::clone(&self.registry));
        let base = Arc::new(Base::new(store, registry, lineage.domain.clone(), processes.collect()));
        members.bases.push(Arc::clone(&base));
        drop(lineages);
        base.announce(portraits); // Milliseconds, so not under the lock.
    }

    /// It sleeps no more. With the last one go the bases.
    pub(crate) fn woke(&self, lineage: &Lineage) {
        let mut lineages = self.lock();
        let Some(members) = lineages.get_mut(lineage) else { return };
        members.sleepers = members.sleepers.saturating_sub(1);
        let gone = (members.sleepers == 0).then(|| lineages.remove(lineage));
        drop(lineages);
        drop(gone); // Gives pages back, so not under the lock.
    }

    /// Memory of what is known of bases beside their pages.
    pub(crate) fn heap_bytes(&self) -> u64 {
        self.registry.heap_bytes()
    }

    /// Chunks by which pages of bases are found.
    pub(crate) fn chunks(&self) -> u64 {
        self.registry.chunks()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lineage, Members>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use linux::arena::MemfdArena;
    use pages::{Content, Fingerprint, Heat, ManifestBuilder, PAGE_SIZE, PageAddr, PageRange, SlotId};

    use super::*;

    fn addr() -> PageAddr {
        PageAddr::containing(0x5000)
    }

    fn domain() -> Domain {
        Domain::named("d")
    }

    fn pinned() -> Lineage {
        Lineage { domain: domain(), kin: Kin::Layout(7) }
    }

    fn random() -> Lineage {
        Lineage { domain: domain(), kin: Kin::Program { name: "f".into(), program: "python".into() } }
    }

    struct Bench {
        store: Arc<PageStore>,
        lineages: Lineages,
    }

    impl Bench {
        fn new(sleepers_per_base: usize) -> Bench {
            let store = Arc::new(PageStore::new(MemfdArena::create().unwrap(), [1; 32]));
            Bench { lineages: Lineages::new(Arc::clone(&store), sleepers_per_base), store }
        }

        /// A process of one page falls asleep, and wakes at once: what stays is what its lineage keeps.
        fn sleep(&self, lineage: &Lineage, byte: u8) -> SlotId {
            let put = self.store.put(&lineage.domain, &[byte; PAGE_SIZE], Heat::Cold).unwrap();
            let mut builder = ManifestBuilder::new();
            builder.extend(addr(), &put);
            let manifests = vec![Arc::new(builder.build().unwrap())];
            let portrait = || {
                let prints = vec![(addr(), [pages::ChunkHash(u32::from(byte))].into_iter().collect())];
                vec![Portrait { mapped: vec![PageRange::new(addr(), 1)], prints }]
            };
            let portraits = matches!(self.lineages.role(lineage), Role::Base(_)).then(portrait);
            self.lineages.slept(lineage, &manifests, portraits);
            let release = |manifest| self.store.release(manifest);
            manifests.into_iter().filter_map(Arc::into_inner).for_each(release);
            put[0].slot().unwrap()
        }

        fn bases(&self, lineage: &Lineage) -> usize {
            self.lineages.lock().get(lineage).map_or(0, |members| members.bases.len())
        }

        #[track_caller]
        fn assert_nothing_is_left(&self) {
            assert_eq!((self.store.stats().pages, self.store.stats().strays), (0, 0));
            assert_eq!(self.lineages.heap_bytes(), 0);
        }
    }

    #[test]
    fn the_first_sleeper_is_base_until_the_last_one_wakes() {
        for lineage in [pinned(), random()] {
            let bench = Bench::new(40);
            let other = Lineage { domain: Domain::named("e"), ..lineage.clone() };
            let slot = bench.sleep(&lineage, 1);
            bench.sleep(&lineage, 2);
            assert!(matches!(bench.lineages.role(&other), Role::Base(_)));
            let base = match bench.lineages.role(&lineage) {
                Role::ByPlace(base) => base,
                Role::ByContent(bases) => Arc::clone(&bases[0]),
                _ => panic!("there is a base"),
            };
            let range = [PageRange::new(PageAddr::containing(0x4000), 2)];
            assert_eq!(base.slots_at(0, &range), [None, Some(slot)]);
            assert_eq!(base.slots_at(1, &range), [None, None]);
            drop(base);
            bench.lineages.woke(&lineage);
            assert_eq!(bench.bases(&lineage), 1);
            assert_eq!(bench.store.stats().pages, 1);
            bench.lineages.woke(&lineage);
            bench.lineages.woke(&lineage); // Nobody sleeps.
            bench.assert_nothing_is_left();
        }
    }

    #[test]
    fn of_many_sleepers_more_become_base() {
        for lineage in [pinned(), random()] {
            let bench = Bench::new(3);
            let bases = (1..10).map(|byte| {
                bench.sleep(&lineage, byte);
                bench.bases(&lineage)
            });
            assert_eq!(bases.collect::<Vec<_>>(), [1, 1, 1, 1, 2, 2, 2, 3, 3]);
            (1..9).for_each(|_| bench.lineages.woke(&lineage));
            assert_eq!((bench.bases(&lineage), bench.store.stats().pages), (3, 3));
            bench.lineages.woke(&lineage);
            bench.assert_nothing_is_left();
        }
    }

    #[test]
    fn a_base_stays_while_somebody_is_encoded_against_it() {
        let bench = Bench::new(40);
        bench.sleep(&random(), 1);
        let Role::ByContent(bases) = bench.lineages.role(&random()) else { panic!("there is a base") };
        bench.lineages.woke(&random());
        let process = bases[0].process(0).unwrap();
        assert!(matches!(process.manifest().get(addr()), Some(Content::Slots(_))));
        assert_eq!(bench.store.stats().pages, 1);
        drop(bases);
        bench.assert_nothing_is_left();
    }

    #[test]
    fn a_base_with_a_random_layout_is_found_by_content() {
        let bench = Bench::new(40);
        bench.sleep(&random(), 1);
        let Role::ByContent(bases) = bench.lineages.role(&random()) else { panic!("there is a base") };
        let wanted = [1, 2].map(|chunk| [pages::ChunkHash(chunk)].into_iter().collect::<Fingerprint>());
        assert_eq!(bases[0].lookup(0, &wanted), [Some((0, 1)), None]);
        assert_eq!(bases[0].lookup(1, &wanted), [None, None]);
    }
}
