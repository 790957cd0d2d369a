//! Real files: what is not as it was written is refused, and says why.

use std::path::Path;

use super::{NOW, close, event};
use crate::queue::{Queue, Taken};
use crate::{Bounds, OpenError};

async fn filled(path: &Path) -> usize {
    let queue = Queue::open(path, Bounds::default(), NOW).unwrap();
    for n in 0..20_u8 {
        queue.accept(event("f", vec![b'0' + n % 10; 10_000]), NOW).await.unwrap();
    }
    close(queue).await;
    20
}

fn count(queue: &Queue) -> usize {
    std::iter::from_fn(|| match queue.take(NOW, &|_| usize::MAX).unwrap() {
        Taken::Event(event) => Some(event),
        _ => None,
    })
    .count()
}

#[tokio::test]
async fn a_file_is_opened_again_with_all_that_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.redb");
    let events = filled(&path).await;
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&path, open_to_all).unwrap();
    let queue = Queue::open(&path, Bounds::default(), NOW).unwrap();
    let permissions = std::fs::metadata(&path).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&permissions) & 0o777, 0o600);
    assert_eq!(count(&queue), events);
}

#[tokio::test]
async fn a_file_that_somebody_cut_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.redb");
    let events = filled(&path).await;
    let whole = std::fs::read(&path).unwrap();
    let cut = dir.path().join("cut.redb");
    let mut lens: Vec<_> = (0..whole.len()).step_by(whole.len() / 30).collect();
    lens.extend([1, 100, 320, 4095, 4096, whole.len() - 1, whole.len()]);
    for len in lens {
        std::fs::write(&cut, &whole[..len]).unwrap();
        match Queue::open(&cut, Bounds::default(), NOW) {
            Ok(queue) => {
                assert_eq!(count(&queue), events, "{len} of {} bytes", whole.len());
                close(queue).await;
            }
            Err(error) => {
                assert!(len < whole.len(), "{error}");
                assert!(error.to_string().contains("cut.redb"), "{error}");
                assert!(matches!(error, OpenError::Damaged { .. }), "{len}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_somebody_wrote_into_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.redb");
    filled(&path).await;
    let mut bytes = std::fs::read(&path).unwrap();
    let payload = bytes.windows(64).position(|window| window == [b'3'; 64]).unwrap();
    bytes[payload + 10] = b'x';
    std::fs::write(&path, bytes).unwrap();
    let refused = Queue::open(&path, Bounds::default(), NOW).map(|_| ());
    assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_queue_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.redb");
    let queue = Queue::open(&path, Bounds::default(), NOW).unwrap();
    let second = Queue::open(&path, Bounds::default(), NOW).map(|_| ());
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    close(queue).await;
    Queue::open(&path, Bounds::default(), NOW).unwrap();
}

#[tokio::test]
async fn a_start_that_was_cut_off_leaves_nothing_that_stands_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.redb");
    std::fs::write(path.with_extension("new"), "half").unwrap();
    Queue::open(&path, Bounds::default(), NOW).unwrap();
}
