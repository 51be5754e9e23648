//! The same against real servers, each for what it is true in: `s3s-fs` checks signatures, clocks and the
//! length of names, moto takes any name, azurite is Azure's own.

use std::process::{Child, Command, Stdio};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;

use super::*;
use crate::targets::moto::Moto;
use crate::targets::parts::part;

/// Starts `s3s-fs` with an empty bucket.
async fn s3s(folder: &std::path::Path) -> String {
    std::fs::create_dir(folder.join("shop")).expect("a bucket");
    let files = s3s_fs::FileSystem::new(folder).expect("it opens");
    let mut builder = s3s::service::S3ServiceBuilder::new(files);
    builder.set_auth(s3s::auth::SimpleAuth::from_single("the-key", "the-secret"));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    format!("http://{address}")
}

/// A server that is killed at the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

async fn start(mut command: Command, port: u16) -> Server {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = Server(child.expect("it starts"));
    let began = std::time::Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "it does not listen"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server
}

/// Puts, changes, lists, compares and deletes.
async fn story(options: &Options, keys: &[&str]) {
    let options = Options {
        place: Place {
            timeout: Duration::from_secs(20),
            ..options.place.clone()
        },
        ..options.clone()
    };
    let bucket = Bucket::open(&options, &opening()).expect("it opens");
    assert_eq!(bucket.check().await, Ok(vec![]));
    for (sequence, body) in [(5, "{\"price\":1}"), (6, "{\"price\":2}")] {
        for key in keys {
            let outcome = deliver(&bucket, &item(key, sequence, Some(body))).await;
            assert_eq!(outcome, Outcome::Delivered, "{key}");
        }
    }
    let same: Vec<Item> = keys
        .iter()
        .map(|key| item(key, 6, Some("{\"price\":2}")))
        .collect();
    let held = bucket.compare(&same).await.expect("it is compared");
    assert_eq!(held, vec![Held::Same; keys.len()]);
    let newer: Vec<Item> = keys
        .iter()
        .map(|key| item(key, 7, Some("{\"price\":3}")))
        .collect();
    let held = bucket.compare(&newer).await.expect("it is compared");
    assert_eq!(held, vec![Held::Older(Sequence(6)); keys.len()]);
    let mut listed = bucket.keys(None).await.expect("a page").keys;
    let mut expected: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for key in keys {
        assert_eq!(
            deliver(&bucket, &item(key, 8, None)).await,
            Outcome::Delivered
        );
        // Deleted twice.
        assert_eq!(
            deliver(&bucket, &item(key, 9, None)).await,
            Outcome::Delivered
        );
    }
    assert_eq!(
        bucket.keys(None).await.expect("a page").keys,
        Vec::<String>::new()
    );

    let store = &bucket.inner.store;
    let body = large(18 * 1024 * 1024);
    let metadata = vec![(options.place.cloud.metadata_names()[1], "d1".to_owned())];
    let object = Object {
        name: "feeds/all.xml".into(),
        metadata: metadata.clone(),
        ..object()
    };
    assert_eq!(store.put(object, body.clone()).await, Outcome::Delivered);
    let stored = store
        .look("feeds/all.xml")
        .await
        .expect("a look")
        .expect("it is there");
    assert_eq!(stored.bytes, body.len() as u64);
    assert_eq!(stored.value(metadata[0].0), Some("d1"), "{stored:?}");
    assert_eq!(store.delete("feeds/all.xml").await, Outcome::Delivered);
}

const KEYS: [&str; 7] = ["4711", "a/b", "..", "A", "a", "ä ö+&?#%", "%2F"];

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_checks_signatures_takes_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = s3s(folder.path()).await;
    story(&options(&url), &KEYS).await;
    let wrong = Options {
        place: Place {
            auth: Auth::Key {
                key: "the-key".into(),
                secret: Secret(b"another".to_vec()),
                token: None,
            },
            ..place(&url)
        },
        ..options(&url)
    };
    let outcome = deliver(&bucket(&wrong), &item("a", 1, Some("x"))).await;
    says(&outcome, "Trip");
    says(&outcome, "SignatureDoesNotMatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_any_name_and_boto3_reads_what_weir_wrote() {
    let Some(moto) = Moto::start("that buckets hold any key, as boto3 sees it") else {
        return;
    };
    let url = moto.url();
    tokio::task::block_in_place(|| moto.judge("s3.create_bucket(Bucket='shop')"));
    let long = "ü".repeat(300);
    let keys: Vec<&str> = KEYS.into_iter().chain([&*long]).collect();
    story(&options(&url), &keys).await;

    let missing = Options {
        place: Place {
            bucket: "nothing".into(),
            ..place(&url)
        },
        ..options(&url)
    };
    let outcome = deliver(&bucket(&missing), &item("a", 1, Some("x"))).await;
    says(&outcome, "there is no such bucket");

    let bucket = bucket(&options(&url));
    let written = deliver(&bucket, &item("ä/1", 7, Some("{\"price\":1}"))).await;
    assert_eq!(written, Outcome::Delivered);
    let seen = tokio::task::block_in_place(|| {
        moto.judge(
            "o = s3.get_object(Bucket='shop', Key='p/%C3%A4%2F1.json')\nprint(o['Body'].read().decode(), o['ContentType'], o['Metadata']['weir-sequence'], o['Metadata']['weir-key'])\nprint(s3.list_multipart_uploads(Bucket='shop').get('Uploads'))",
        )
    });
    assert_eq!(seen, "{\"price\":1} application/json 7 %C3%A4%2F1\nNone");
    let Some(rclone) = part("rclone", "that rclone reads a bucket") else {
        return;
    };
    let copied = tokio::task::block_in_place(|| {
        let remote = format!(
            ":s3,provider=Other,endpoint='{url}',access_key_id=the-key,secret_access_key=the-secret:shop/p"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let done = Command::new(rclone)
            // It reads the variables of Amazon's tools.
            .env_remove("AWS_CA_BUNDLE")
            .args(["copy", "--config", "/dev/null", &remote])
            .arg(folder.path())
            .output()
            .expect("rclone runs");
        assert!(done.status.success(), "{done:?}");
        std::fs::read_to_string(folder.path().join("%C3%A4%2F1.json"))
    });
    assert_eq!(copied.expect("a copy"), "{\"price\":1}");
}

/// The key of azurite's only account, which everybody knows.
const AZURITE: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

#[cfg(feature = "azure")]
#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_azure_takes_everything() {
    let Some(azurite) = part("azurite", "containers of Azure") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
    let mut command = Command::new(azurite);
    command
        .args(["--skipApiVersionCheck", "--inMemoryPersistence", "--silent"])
        .args([
            "--blobPort",
            &ports[0],
            "--queuePort",
            &ports[1],
            "--tablePort",
            &ports[2],
        ])
        .current_dir(folder.path());
    let port = ports[0].parse().expect("a port");
    let _server = start(command, port).await;
    let url = format!("http://127.0.0.1:{port}/devstoreaccount1");
    let options = Options {
        place: Place {
            cloud: Cloud::Azure,
            auth: Auth::Account {
                account: "devstoreaccount1".into(),
                proof: AccountProof::Key(Secret(AZURITE.as_bytes().to_vec())),
            },
            ..place(&url)
        },
        ..options(&url)
    };
    let outcome = deliver(&bucket(&options), &item("a", 1, Some("x"))).await;
    says(&outcome, "there is no such bucket");
    create_container(&format!("{url}/shop?restype=container")).await;
    story(&options, &KEYS).await;
    let wrong = Options {
        place: Place {
            auth: Auth::Account {
                account: "devstoreaccount1".into(),
                proof: AccountProof::Key(Secret(b"d3Jvbmc=".to_vec())),
            },
            ..options.place.clone()
        },
        ..options
    };
    says(
        &deliver(&bucket(&wrong), &item("a", 1, Some("x"))).await,
        "Trip",
    );
}

#[cfg(feature = "azure")]
async fn create_container(url: &str) {
    use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
    use object_store::client::{HttpRequest, HttpRequestBody};
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = http::Method::PUT;
    *request.uri_mut() = url.parse().expect("a URL");
    let zero = object_store::HeaderValue::from_static("0");
    request.headers_mut().insert("content-length", zero);
    let key = AzureCredential::AccessKey(AzureAccessKey::try_new(AZURITE).expect("a key"));
    AzureAuthorizer::new(&key, "devstoreaccount1")
        .try_authorize(&mut request)
        .expect("it is signed");
    let (head, _) = request.into_parts();
    let address = Address::parse(url).expect("a URL");
    let wire = http::Wire::open(&Connections::default(), Duration::from_secs(5), &address);
    let answered = wire
        .expect("it opens")
        .exchange(head, Bytes::new(), None)
        .await;
    let (head, body) = answered.expect("an answer");
    assert_eq!(head.status, 201, "{}", String::from_utf8_lossy(&body));
}
