//! What earlier runs left on the disk, whole and damaged.

use catalogue::{CatalogueStore, FunctionRecord, PackageId, Packages, Record, VersionRecord};
use protocol::FunctionName;

use super::*;

/// A version as a later program might write it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Later {}

impl Record for Later {
    const KIND: &'static str = "version";
    const FORMAT: u32 = 2;
}

/// A version whose package is nowhere.
fn without_code() -> VersionRecord {
    let told = json!({
        "etag": "0", "modified_ms": 0, "package": PackageId::of(b"gone"), "package_bytes": 4,
        "runtime": "python3.12", "handler": "lambda_function.lambda_handler", "role": "", "description": "",
        "timeout_s": 3, "memory_mb": 128, "tmp_mb": 512, "environment": {}, "architecture": "x86_64",
        "snap_start": false, "dead_letter": null, "told": {},
    });
    serde_json::from_value(told).unwrap()
}

#[tokio::test]
async fn a_record_that_cannot_be_read_costs_its_function_and_no_other_and_nothing_is_deleted() {
    let named = |name: &str| name.parse::<FunctionName>().unwrap();
    let leave = |config: &mut ServerConfig| {
        let store = CatalogueStore::open(&config.data_dir.join("catalogue.redb")).unwrap();
        let written = store.write::<_, catalogue::StoreError>(|writer| {
            for name in ["later", "bare"] {
                writer.put(&named(name), "", &FunctionRecord::default())?;
            }
            writer.put(&named("later"), "$LATEST", &Later {})?;
            writer.put(&named("bare"), "$LATEST", &without_code())
        });
        written.unwrap();
        Packages::open(&config.data_dir.join("packages")).unwrap();
        std::fs::write(config.data_dir.join("packages").join(PackageId::of(b"zip").to_string()), "zip")
            .unwrap();
    };
    let bench = bench("", leave).await;
    let local = [("host", "localhost")];
    let get = async |path: &str| {
        let page = bench.page(&format!("GET /2015-03-31/functions/{path}"), &local, "").await;
        (page.status, serde_json::from_str::<Value>(&page.text.unwrap()).unwrap())
    };
    assert_eq!(bench.invoke(json!({})).await.status, 200);
    for (name, why) in [("later", "version/later/$LATEST has format 2"), ("bare", "is not there")] {
        let (status, body) = get(name).await;
        let shown = &body["Configuration"];
        assert_eq!((status, &shown["State"]), (200, &json!("Failed")), "{body}");
        assert!(shown["StateReason"].as_str().unwrap().contains(why), "{body}");
        for asked in [name.to_owned(), format!("{name}?Qualifier=$LATEST")] {
            let seen = send(bench.server.addr().unwrap(), &asked, &[], Bytes::new()).await;
            assert_eq!(
                (seen.status, seen.header("x-amzn-errortype")),
                (409, Some("ResourceConflictException"))
            );
            let message = seen.body["Message"].as_str().unwrap();
            assert!(message.contains("following state: Failed. ") && message.contains(why), "{message}");
        }
        let seen = send(bench.server.addr().unwrap(), &format!("{name}:7"), &[], Bytes::new()).await;
        assert_eq!(seen.status, 404, "{seen:?}");
    }
    let (_, listed) = get("").await;
    let states = listed["Functions"].as_array().unwrap().iter();
    let states: Vec<_> = states.map(|f| (f["FunctionName"].clone(), f["State"].clone())).collect();
    assert_eq!(json!(states), json!([["bare", "Failed"], ["f", "Active"], ["later", "Failed"]]));
    let kept = std::fs::read_dir(bench.dir.path().join("data/packages")).unwrap().count();
    assert_eq!(kept, 1, "a package that the unreadable record may name");
    assert_eq!(bench.page("DELETE /2015-03-31/functions/later", &local, "").await.status, 204);
    assert_eq!(get("later").await.0, 404);
}

#[tokio::test]
async fn a_folder_is_shown_as_it_is() {
    let bench = bench("tmp_mb = 700\nfile_mb = 900\nsnap_start = true", |_| {}).await;
    let page = bench.page("GET /2015-03-31/functions/f/configuration", &[("host", "localhost")], "").await;
    let shown: Value = serde_json::from_str(&page.text.unwrap()).unwrap();
    assert_eq!(shown["EphemeralStorage"], json!({ "Size": 700 }));
    assert_eq!(shown["SnapStart"], json!({ "ApplyOn": "PublishedVersions", "OptimizationStatus": "On" }));
}
