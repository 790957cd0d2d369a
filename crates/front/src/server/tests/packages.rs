//! Functions that are deployed over the API, and what is left of their code.

use std::io::Write as _;

use zip::write::SimpleFileOptions;

use super::*;

/// A zip with these files, in base64.
pub(super) fn zip(files: &[(&str, &str)]) -> String {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        archive.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    crate::base64::encode(archive.finish().unwrap().get_ref())
}

impl Bench {
    /// A call of the control API: its status.
    pub(super) async fn control(&self, line: &str, body: Value) -> u16 {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.page(line, &[("host", "localhost")], &body).await.status
    }

    /// Makes a function of these files.
    pub(super) async fn create(&self, name: &str, runtime: &str, files: &[(&str, &str)]) {
        let asked = json!({
            "FunctionName": name, "Runtime": runtime, "Handler": "lambda_function.lambda_handler", "Timeout": 60,
            "Role": "arn:aws:iam::000000000000:role/r", "Code": { "ZipFile": zip(files) },
        });
        assert_eq!(self.control("POST /2015-03-31/functions", asked).await, 201);
    }

    /// Packages and trees on the disk.
    fn kept(&self) -> (usize, usize) {
        let data = self.dir.path().join("data");
        let trees = std::fs::read_dir(data.join("trees")).unwrap();
        let trees = trees.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        (std::fs::read_dir(data.join("packages")).unwrap().count(), trees)
    }

    async fn until_kept(&self, packages: usize, trees: usize) {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        while self.kept() != (packages, trees) {
            assert!(tokio::time::Instant::now() < deadline, "{:?} are kept", self.kept());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_goes_when_the_last_who_uses_it_has_gone_and_not_before() {
    let bench = bench("", |_| {}).await;
    bench.create("g", "python3.12", &[("lambda_function.py", HANDLER)]).await;
    let addr = bench.server.addr().unwrap();
    let event = json!({ "wait_for": bench.dir.path().join("go") });
    let held = tokio::spawn(async move { send(addr, "g", &[], event.to_string().into()).await });
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    while bench.client.sandboxes().await.unwrap().iter().all(|sandbox| sandbox.state != State::Busy) {
        assert!(tokio::time::Instant::now() < deadline, "it is never served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The second package replaces the first, of which a sandbox is at work; the third is refused.
    let code = |text: &str| json!({ "ZipFile": zip(&[("lambda_function.py", text)]) });
    let place = "PUT /2015-03-31/functions/g/code";
    assert_eq!(bench.control(place, code("def lambda_handler(event, context):\n    return 2")).await, 200);
    let mut refused = code("def lambda_handler(event, context):\n    return 3");
    refused["DryRun"] = true.into();
    assert_eq!(bench.control(place, refused).await, 200);
    bench.until_kept(2, 2).await;
    assert_eq!(send(addr, "g", &[], Bytes::new()).await.body, json!(2));
    assert_eq!(bench.kept(), (2, 2));
    bench.release("go");
    assert_eq!(held.await.unwrap().status, 200);
    bench.until_kept(1, 1).await;
    assert_eq!(bench.control("DELETE /2015-03-31/functions/g", Value::Null).await, 204);
    bench.until_kept(0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_a_function_cannot_have_is_refused_before_it_is_deployed() {
    let code = |toml: &str| zip(&[("bootstrap", ""), ("function.toml", toml)]);
    for (usual, chosen, why) in [
        ("host", "netns:blue", "--network netns:blue"),
        ("none", "netns:blue", "--network netns:blue"),
        ("netns:dormouse-nowhere", "netns:dormouse-nowhere", "ip netns add dormouse-nowhere"),
    ] {
        let bench = bench("", |config| {
            (config.isolation, config.network) = (crate::Isolation::Cell, usual.parse().unwrap());
        });
        let bench = bench.await;
        let call = async |line: &str, asked: Value| {
            let page = bench.page(line, &[("host", "localhost")], &asked.to_string()).await;
            (page.status, page.text.unwrap())
        };
        bench
            .create("there", "provided.al2023", &[("bootstrap", ""), ("function.toml", "network = 'none'")])
            .await;
        let toml = format!("network = '{chosen}'");
        let role = "arn:aws:iam::000000000000:role/r";
        let asked = json!({ "FunctionName": "g", "Runtime": "provided.al2023", "Handler": "h", "Role": role,
            "Code": { "ZipFile": code(&toml) } });
        let made = call("POST /2015-03-31/functions", asked).await;
        let changed = call("PUT /2015-03-31/functions/there/code", json!({ "ZipFile": code(&toml) })).await;
        for (status, text) in [made, changed] {
            assert_eq!(status, 400, "{text}");
            assert!(text.contains("The package cannot be used") && text.contains(why), "{text}");
        }
        assert_eq!(call("GET /2015-03-31/functions/g", Value::Null).await.0, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_a_version_names_stays() {
    let bench = bench("", |_| {}).await;
    bench.create("g", "python3.12", &[("lambda_function.py", HANDLER)]).await;
    assert_eq!(bench.control("POST /2015-03-31/functions/g/versions", Value::Null).await, 201);
    let code = json!({ "ZipFile": zip(&[("lambda_function.py", "")]) });
    assert_eq!(bench.control("PUT /2015-03-31/functions/g/code", code).await, 200);
    assert_eq!(bench.kept(), (2, 2));
    let seen = send(bench.server.addr().unwrap(), "g:1", &[], Bytes::new()).await;
    assert_eq!((seen.status, seen.header("x-amz-executed-version")), (200, Some("1")));
    assert_eq!(bench.control("DELETE /2015-03-31/functions/g?Qualifier=1", Value::Null).await, 204);
    bench.until_kept(1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_and_settings_can_change_at_once() {
    let tells = "import os\ndef lambda_handler(event, context):\n    return [TURN, os.environ.get('TURN')]";
    let files = |turn: &str| zip(&[("lambda_function.py", &tells.replace("TURN,", &format!("{turn},")))]);
    let bench = bench("", |_| {}).await;
    bench.create("g", "python3.12", &[("lambda_function.py", "")]).await;
    for turn in ["1", "2"] {
        let asked = json!({ "ZipFile": files(turn), "Environment": { "Variables": { "TURN": turn } }, "Publish": true });
        assert_eq!(bench.control("PUT /2015-03-31/functions/g/code", asked).await, 200);
    }
    for (name, expected) in [("g", json!([2, "2"])), ("g:1", json!([1, "1"])), ("g:2", json!([2, "2"]))] {
        assert_eq!(
            send(bench.server.addr().unwrap(), name, &[], Bytes::new()).await.body,
            expected,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_that_is_not_there_or_does_not_start_is_an_error_of_the_function() {
    let bench = bench("", |_| {}).await;
    for (name, files, why) in [
        ("none", [("other", "")], "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        ("text", [("bootstrap", "hello")], "fork/exec /var/task/bootstrap: exec format error"),
        (
            "lost",
            [("bootstrap", "#!/no/where\n")],
            "fork/exec /var/task/bootstrap: no such file or directory",
        ),
    ] {
        bench.create(name, "provided.al2023", &files).await;
        let seen = send(bench.server.addr().unwrap(), name, &[], Bytes::new()).await;
        check_error(&seen, "Runtime.InvalidEntrypoint", &format!("RequestId: ID Error: {why}"));
    }
}
