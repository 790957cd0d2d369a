//! The store does what a map would, over any sequence of changes, undone changes and restarts.

use std::collections::BTreeMap;

use catalogue::{AliasRecord, CatalogueStore, LATEST, Look as _, StoreError, VersionRecord};
use proptest::prelude::*;
use protocol::FunctionName;

use crate::record::version;

/// Few names, so that they meet; one is the beginning of another.
const NAMES: [&str; 3] = ["a", "ab", "b"];
const QUALIFIERS: [&str; 3] = [LATEST, "1", "10"];

#[derive(Clone, Debug)]
enum Act {
    Put(usize, usize, String),
    Remove(usize, usize),
    RemoveAll(usize),
    /// A change that puts, and then fails.
    Undone(usize, usize),
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let (name, qualifier) = (0..NAMES.len(), 0..QUALIFIERS.len());
    prop_oneof![
        5 => (name.clone(), qualifier.clone(), "[a-zä\\\\\"]{0,20}").prop_map(|(n, q, text)| Act::Put(n, q, text)),
        2 => (name.clone(), qualifier.clone()).prop_map(|(n, q)| Act::Remove(n, q)),
        1 => name.clone().prop_map(Act::RemoveAll),
        1 => (name, qualifier).prop_map(|(n, q)| Act::Undone(n, q)),
        1 => Just(Act::Reopen),
    ]
}

type Model = BTreeMap<(FunctionName, String), VersionRecord>;

fn name(index: usize) -> FunctionName {
    NAMES[index].parse().unwrap()
}

fn change(store: &CatalogueStore, model: &mut Model, act: &Act) {
    match act {
        Act::Put(n, q, text) => {
            let (name, record) = (name(*n), version(text));
            store.write(|writer| writer.put(&name, QUALIFIERS[*q], &record)).unwrap();
            model.insert((name, QUALIFIERS[*q].to_owned()), record);
        }
        Act::Remove(n, q) => {
            let name = name(*n);
            let was_there =
                store.write(|writer| writer.remove::<VersionRecord>(&name, QUALIFIERS[*q])).unwrap();
            assert_eq!(model.remove(&(name, QUALIFIERS[*q].to_owned())).is_some(), was_there);
        }
        Act::RemoveAll(n) => {
            let name = name(*n);
            store.write(|writer| writer.remove_all::<VersionRecord>(&name)).unwrap();
            model.retain(|(of, _), _| *of != name);
        }
        Act::Undone(n, q) => {
            let refused: Result<(), StoreError> = store.write(|writer| {
                writer.put(&name(*n), QUALIFIERS[*q], &version("never"))?;
                Err(StoreError::TooLarge { key: String::new(), len: 0 })
            });
            assert!(refused.is_err());
        }
        Act::Reopen => {}
    }
}

/// The store has what the model has, in whatever way it is asked.
fn compare(store: &CatalogueStore, model: &Model) {
    let reader = store.read().unwrap();
    let all: Vec<_> = reader.all::<VersionRecord>().unwrap().records;
    let expected: Vec<_> =
        model.iter().map(|((n, q), record)| (n.clone(), q.clone(), record.clone())).collect();
    assert_eq!(all, expected);
    assert!(reader.all::<AliasRecord>().unwrap().records.is_empty(), "another kind");
    for name in NAMES.map(|name| name.parse::<FunctionName>().unwrap()) {
        let of: Vec<_> = reader.of::<VersionRecord>(&name).unwrap();
        let expected = model.iter().filter(|((n, _), _)| *n == name);
        assert_eq!(of, expected.map(|((_, q), record)| (q.clone(), record.clone())).collect::<Vec<_>>());
        for qualifier in QUALIFIERS {
            let found = reader.get::<VersionRecord>(&name, qualifier).unwrap();
            assert_eq!(found.as_ref(), model.get(&(name.clone(), qualifier.to_owned())));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map_that_survives(acts in prop::collection::vec(act(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.redb");
        let mut store = CatalogueStore::open(&path).unwrap();
        let mut model = Model::new();
        for act in &acts {
            change(&store, &mut model, act);
            if matches!(act, Act::Reopen) {
                drop(store);
                store = CatalogueStore::open(&path).unwrap();
            }
        }
        compare(&store, &model);
    }
}
