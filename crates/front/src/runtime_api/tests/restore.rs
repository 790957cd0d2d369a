//! Snapshot hooks, by hand and with Amazon's client.

use super::*;

#[tokio::test]
async fn who_waits_for_a_restore_is_a_snapshot_and_gets_its_invocation_after_its_hooks() {
    let mut bench = bench().await;
    let mut client = bench.client().await;
    let mut waiting = bench.client().await;
    let restored = tokio::spawn(async move { call(&mut waiting, "GET", "restore/next", Bytes::new()).await });
    assert!(matches!(bench.event().await, RuntimeEvent::Snapshot));
    assert_eq!(call(&mut client, "GET", "invocation/next", Bytes::new()).await.0, 403);
    assert!(bench.api.offer(an_offer("7", "{}")));
    assert_eq!(restored.await.unwrap().0, 200);
    assert_eq!(call(&mut client, "GET", "invocation/next", Bytes::new()).await.0, 200);
    let event = bench.event().await;
    assert!(matches!(&event, RuntimeEvent::Restored { invocation } if invocation.0 == "7"), "{event:?}");
    assert_eq!(call(&mut client, "POST", "invocation/7/response", "1".into()).await.0, 202);
    assert_eq!(call(&mut client, "GET", "restore/next", Bytes::new()).await.0, 403, "there is one restore");
}

#[tokio::test]
async fn a_hook_that_fails_fails_the_invocation_and_the_sandbox() {
    let mut bench = bench().await;
    let mut client = bench.client().await;
    assert_eq!(call(&mut client, "POST", "restore/error", "{}".into()).await.0, 403);
    assert!(bench.api.offer(an_offer("7", "{}")));
    assert_eq!(call(&mut client, "GET", "restore/next", Bytes::new()).await.0, 200);
    assert!(matches!(bench.event().await, RuntimeEvent::Snapshot));
    assert_eq!(call(&mut client, "POST", "restore/error", r#"{"a":1}"#.into()).await.0, 202);
    let expected = outcome::function_error(r#"{"a":1}"#.into(), None);
    assert_eq!(bench.outcome().await, ("7".to_owned(), expected));
    assert!(matches!(bench.event().await, RuntimeEvent::Failed(_)));
}
