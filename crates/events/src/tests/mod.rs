//! The queue on a disk that can fail and forget, and on a file that somebody cut.

mod disk;
mod file;
mod model;

use bytes::Bytes;
use protocol::InvocationId;

use crate::queue::{AcceptError, Queue, QueueError, Taken};
use crate::{Bounds, Event, Full, Lane, NewEvent, PAYLOAD_MAX, Target, Timestamp, Usage};
use disk::Disk;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) fn event(function: &str, payload: impl Into<Bytes>) -> NewEvent {
    NewEvent {
        target: Target::Function { name: function.parse().unwrap(), qualifier: Some("live".to_owned()) },
        invocation: InvocationId(format!("of {function}")),
        payload: payload.into(),
        trace_id: "Root=1".to_owned(),
        hops: 3,
    }
}

pub(crate) fn open(disk: &Disk, bounds: Bounds) -> Queue {
    Queue::open_by("events".as_ref(), disk.opener(), bounds, NOW).unwrap()
}

/// Closing blocks, which a task must not.
pub(crate) async fn close(queue: Queue) {
    tokio::task::spawn_blocking(move || queue.close()).await.unwrap();
}

#[track_caller]
pub(crate) fn take(queue: &Queue) -> Event {
    match queue.take(NOW, &|_: &Lane| usize::MAX).unwrap() {
        Taken::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_event_comes_out_as_it_went_in() {
    let disk = Disk::default();
    let queue = open(&disk, Bounds::default());
    let id = queue.accept(event("f", "{}"), NOW).await.unwrap();
    let taken = take(&queue);
    let expected = event("f", "{}");
    assert_eq!((taken.id, taken.failures, taken.accepted), (id, 0, NOW));
    assert_eq!((taken.target, taken.invocation), (expected.target, expected.invocation));
    assert_eq!((taken.payload, taken.trace_id, taken.hops), (expected.payload, expected.trace_id, 3));
    assert_eq!(queue.take(NOW, &|_| 9).unwrap(), Taken::Nothing);
}

#[tokio::test]
async fn many_that_come_together_share_a_write() {
    let disk = Disk::default();
    let queue = open(&disk, Bounds::default());
    let before = disk.syncs();
    disk.hold();
    let accepts: Vec<_> = (0..100)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.accept(event("f", "{}"), NOW).await.unwrap() })
        })
        .collect();
    // On one thread every accept is asked for before this goes on.
    tokio::task::yield_now().await;
    assert_eq!(queue.take(NOW, &|_| 9).unwrap(), Taken::Nothing, "nothing is to be had before it is written");
    disk.release();
    for accept in accepts {
        accept.await.unwrap();
    }
    let syncs = disk.syncs() - before;
    assert!((1..20).contains(&syncs), "{syncs} for 100 events");
}

#[tokio::test]
async fn a_full_queue_takes_records_but_no_events() {
    let bound = |events| Usage { events, bytes: 1 << 20 };
    let queue = open(&Disk::default(), Bounds { lane: bound(2), total: bound(3) });
    for function in ["f", "f", "g"] {
        queue.accept(event(function, "{}"), NOW).await.unwrap();
    }
    let full = |result| match result {
        Err(AcceptError::Full(full)) => full,
        other => panic!("{other:?}"),
    };
    assert_eq!(full(queue.accept(event("f", "{}"), NOW).await), Full::Lane);
    assert_eq!(full(queue.accept(event("g", "{}"), NOW).await), Full::Total);
    let first = take(&queue);
    let records = (0..5).map(|_| event("f", "{}")).collect();
    let queued = queue.finish(first.id, records, NOW).await.unwrap();
    let refused = queued.iter().filter(|result| result.is_err()).count();
    assert_eq!(refused, 2, "one had gone, and up to four there may be");
    assert_eq!(full(queue.accept(event("h", "{}"), NOW).await), Full::Total);
}

#[tokio::test]
async fn a_payload_may_be_as_large_as_amazons() {
    let queue = open(&Disk::default(), Bounds::default());
    queue.accept(event("f", vec![b' '; PAYLOAD_MAX]), NOW).await.unwrap();
    let refused = queue.accept(event("f", vec![b' '; PAYLOAD_MAX + 1]), NOW).await;
    assert!(matches!(refused, Err(AcceptError::TooLarge { limit: PAYLOAD_MAX, .. })), "{refused:?}");
}

#[tokio::test]
async fn what_a_full_disk_refuses_is_told_and_changes_nothing() {
    let disk = Disk::default();
    let queue = open(&disk, Bounds::default());
    queue.accept(event("f", "1"), NOW).await.unwrap();
    let taken = take(&queue);
    disk.fail(true);
    assert!(matches!(queue.accept(event("f", "2"), NOW).await, Err(AcceptError::Queue(_))));
    assert!(matches!(queue.finish(taken.id, vec![event("g", "3")], NOW).await, Err(QueueError::Store(_))));
    assert!(matches!(queue.fail(taken.id, NOW).await, Err(QueueError::Store(_))));
    queue.refuse(taken.id, NOW, NOW);
    disk.fail(false);
    // The first call finds that the file cannot be used, and opens it again.
    let _ = queue.accept(event("f", "4"), NOW).await;
    queue.accept(event("f", "5"), NOW).await.unwrap();
    assert_eq!(take(&queue).payload, "1");
    let mut rest: Vec<_> = Vec::new();
    while let Taken::Event(event) = queue.take(NOW, &|_| 9).unwrap() {
        rest.push(event.payload);
    }
    assert!(!rest.contains(&"2".into()) && !rest.contains(&"3".into()) && rest.contains(&"5".into()));
}

#[tokio::test]
async fn what_nobody_took_cannot_be_ended() {
    let queue = open(&Disk::default(), Bounds::default());
    let id = queue.accept(event("f", "1"), NOW).await.unwrap();
    assert!(matches!(queue.fail(id, NOW).await, Err(QueueError::NotTaken { .. })));
    assert!(matches!(queue.finish(id, vec![], NOW).await, Err(QueueError::NotTaken { .. })));
    assert_eq!(take(&queue).id, id);
    queue.finish(id, vec![], NOW).await.unwrap();
    assert!(matches!(queue.finish(id, vec![], NOW).await, Err(QueueError::NotTaken { .. })));
}

#[tokio::test]
async fn a_closed_queue_says_so() {
    let queue = open(&Disk::default(), Bounds::default());
    close(queue.clone()).await;
    let refused = queue.accept(event("f", "1"), NOW).await;
    assert!(matches!(refused, Err(AcceptError::Queue(QueueError::Closed))), "{refused:?}");
}

#[tokio::test]
async fn a_clock_that_was_set_back_delays_nothing_for_long() {
    let disk = Disk::default();
    let queue = open(&disk, Bounds::default());
    queue.accept(event("f", "1"), NOW).await.unwrap();
    let id = take(&queue).id;
    queue.fail(id, Timestamp(NOW.0 + 86_400_000)).await.unwrap();
    close(queue).await;
    let queue = open(&disk, Bounds::default());
    assert_eq!(queue.take(NOW, &|_| 9).unwrap(), Taken::NothingBefore(Timestamp(NOW.0 + 300_000)));
}
