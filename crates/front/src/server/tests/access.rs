//! Who is let in, as boto3 sees it, and whether what botocore signs is what we check.

use testkit::{python, require_python};

use super::*;
use crate::isolation::Isolation;
use crate::keys::{FRESH, Keys};

const CLIENT: &str = r##"
import http.client, json, random, sys, urllib.error, urllib.request
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, urlsplit
import boto3, botocore.auth
from botocore import UNSIGNED
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
url, key, secret = sys.argv[1:4]

def client(key=key, secret=secret, **config):
    config = Config(retries={'total_max_attempts': 1}, **config)
    return boto3.client('lambda', endpoint_url=url, region_name='eu-west-3', aws_access_key_id=key,
        aws_secret_access_key=secret, config=config)

def denied(call, code, words):
    try:
        call()
    except ClientError as error:
        said = error.response
        assert said['ResponseMetadata']['HTTPStatusCode'] == 403, said
        assert said['Error']['Code'] == code and words in said['Error']['Message'], said
        assert said['ResponseMetadata']['RequestId'], said
    else:
        raise AssertionError('not denied: ' + words)

good = client()
arn = 'arn:aws:lambda:us-east-1:000000000000:function:f'
answer = good.invoke(FunctionName=arn, Qualifier='$LATEST', Payload='{"x": "\u00e4"}', LogType='Tail', ClientContext='e30=')
assert json.load(answer['Payload'])['event'] == {'x': '\u00e4'}
assert 'f' in [f['FunctionName'] for f in good.list_functions(MaxItems=50)['Functions']]

invalid = 'InvalidSignatureException'
denied(client(secret='x' * 40).list_functions, invalid, 'does not match the signature you provided')
denied(client(key='AKIAIOSFODNN7EXAMPLE').list_functions, 'UnrecognizedClientException', 'security token')
denied(client(signature_version=UNSIGNED).list_functions, 'MissingAuthenticationTokenException', 'Missing')
tampered = client()
tampered.meta.events.register('before-send', lambda request, **_: setattr(request, 'body', b'{"x": 2}'))
denied(lambda: tampered.invoke(FunctionName='f', Payload='{"x": 1}'), invalid, 'does not match')

real = botocore.auth.get_current_datetime
for minutes, words in (-6, 'Signature expired: '), (6, 'Signature not yet current: '):
    botocore.auth.get_current_datetime = lambda: real() + timedelta(minutes=minutes)
    denied(good.list_functions, invalid, words)
    denied(lambda: client(key='AKIAIOSFODNN7EXAMPLE').list_functions(), 'UnrecognizedClientException', '')
botocore.auth.get_current_datetime = real

def fetch(presigned):
    try:
        with urllib.request.urlopen(presigned) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
presigned = good.generate_presigned_url('list_functions', Params={'MaxItems': 7}, ExpiresIn=600)
assert fetch(presigned) == 200
assert fetch(presigned.replace('MaxItems=7', 'MaxItems=8')) == 403
botocore.auth.get_current_datetime = lambda: real() - timedelta(minutes=11)
assert fetch(good.generate_presigned_url('list_functions', ExpiresIn=600)) == 403
assert fetch(good.generate_presigned_url('list_functions', ExpiresIn=720)) == 200
botocore.auth.get_current_datetime = real

random.seed(7)
def text(alphabet, most):
    return ''.join(random.choice(alphabet) for _ in range(random.randint(0, most)))
strange = ' !"#$%&\'()*+,-./:;<=>?@AZaz09[]^_`{|}~\u00e4\u4e2d'
connection = http.client.HTTPConnection(urlsplit(url).netloc)
for turn in range(int(sys.argv[4])):
    path = '/' + quote(text(strange + '//..', 20), safe='/')
    pairs = [quote(text(strange, 5), safe='') + '=' + quote(text(strange, 5), safe='') for _ in range(random.randint(0, 4))]
    target = url + path + ('?' + '&'.join(pairs) if pairs else '')
    headers = {'X-Amz-' + text('abc', 3) + 'x': text('ab  c,', 9).strip() for _ in range(random.randint(0, 2))}
    body = text(strange, 30).encode() if turn % 2 == 0 else b''
    request = AWSRequest(random.choice(['GET', 'POST', 'PUT', 'DELETE']), target, headers, body)
    sign = (SigV4Auth, SigV4QueryAuth)[turn % 2]
    sign(Credentials(key, secret), 'lambda', 'eu-west-3').add_auth(request)
    split = urlsplit(request.url)
    headers, altered = dict(request.headers), turn % 5 == 4
    if altered:
        body += b'.'
    connection.request(request.method, split.path + ('?' + split.query if split.query else ''), body, headers)
    answer = connection.getresponse()
    said = answer.read()
    assert (answer.status == 403) == altered, (answer.status, said, request.url, headers, body)
print('as it should be')
"##;

/// Requests of random addresses, parameters, headers and bodies, signed by botocore.
const SIGNED: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_a_key_comes_in() {
    if !require_python(&["boto3"]) {
        return;
    }
    let mut keys = None;
    let bench = bench("", |config| {
        for (name, auth) in [("open", "NONE"), ("signed", "AWS_IAM")] {
            let root = config.data_dir.with_file_name("urls").join(name);
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join("lambda_function.py"), HANDLER).unwrap();
            std::fs::write(root.join("function.toml"), format!("[url]\nauth = '{auth}'")).unwrap();
            config.catalogue.insert(crate::load_function(&root).unwrap());
        }
        keys = Some(Keys::in_dir(&config.data_dir));
    });
    let (bench, keys) = (bench.await, keys.unwrap());
    assert_eq!(bench.invoke(json!({})).await.status, 200, "without keys this machine may call");
    let key = keys.add("boto3").unwrap();
    let mut client = tokio::process::Command::new(python());
    client.args(["-c", CLIENT, &format!("http://{}", bench.server.addr().unwrap()), &key.id, &key.secret]);
    let ran = client.arg(SIGNED.to_string()).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&ran.stdout), "as it should be\n", "{}", text(&ran.stderr));

    let refused = bench.invoke(json!({})).await;
    assert_eq!(
        (refused.status, refused.header("x-amzn-errortype")),
        (403, Some("MissingAuthenticationTokenException"))
    );
    for (url, status) in [("open", 200), ("signed", 403)] {
        assert_eq!(
            bench.page(&format!("GET /url/{url}/"), &[("host", "h")], "").await.status,
            status,
            "{url}"
        );
    }
    assert!(bench.client.stats().await.is_ok(), "the operator needs no key");
    std::fs::write(bench.dir.path().join("data/keys.toml"), "no keys").unwrap();
    tokio::time::sleep(FRESH).await;
    assert_eq!(bench.invoke(json!({})).await.status, 500, "who reads no keys lets nobody in");
    std::fs::remove_file(bench.dir.path().join("data/keys.toml")).unwrap();
    tokio::time::sleep(FRESH).await;
    assert_eq!(bench.invoke(json!({})).await.status, 200);
}

#[tokio::test]
async fn other_machines_come_in_with_keys_only() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let mut config = ServerConfig::new(Catalogue::default(), dir.path());
        config.listen = Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Server::start_with(config, Arc::new(Double::default()))
    };
    let Err(error) = start().await else { panic!("it is open to the world") };
    assert!(
        matches!(error, ServerError::NoKeys { .. }) && error.to_string().contains("dormouse key add"),
        "{error}"
    );
    let keys = Keys::in_dir(dir.path());
    let key = keys.add("").unwrap();
    let server = start().await.unwrap();
    keys.remove(&key.id).unwrap();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, server.addr().unwrap().port()));
    let seen = send(addr, "f", &[], Bytes::new()).await;
    assert_eq!(
        (seen.status, seen.header("x-amzn-errortype")),
        (403, Some("MissingAuthenticationTokenException"))
    );
}

#[tokio::test]
async fn a_page_of_somebody_elses_does_not_come_in() {
    let bench = bench("", |_| {}).await;
    let addr = bench.server.addr().unwrap();
    let seen = send(addr, "f", &[("origin", "https://evil.example")], "{}".into()).await;
    assert_eq!((seen.status, seen.header("x-amzn-errortype")), (403, Some("AccessDeniedException")));
    assert!(bench.node.calls().is_empty());
}

/// Nothing runs here: the double builds no cells.
#[tokio::test]
async fn a_function_does_not_come_in_without_a_key() {
    for (isolation, refused) in [(Isolation::Cell, true), (Isolation::None, false)] {
        let bench = bench("[url]\nauth = 'NONE'", |config| config.isolation = isolation).await;
        let addr = bench.server.addr().unwrap();
        let is_refused = async || {
            let list =
                crate::asking::ask(addr, "GET /2015-03-31/functions/", &[("host", "localhost")], "").await;
            (list.status, list.header("x-amzn-errortype")) == (403, "AccessDeniedException")
        };
        bench.node.faults().of_cell.store(true, SeqCst);
        assert_eq!(is_refused().await, refused, "{isolation:?}");
        let page = crate::asking::ask(addr, "GET /url/f/", &[("host", "h")], "").await;
        assert_ne!(page.status, 403, "a URL is for everybody, {isolation:?}");
        bench.node.faults().of_cell.store(false, SeqCst);
        assert!(!is_refused().await, "{isolation:?}");
    }
}
