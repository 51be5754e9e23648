//! A feed that is put into a bucket, which is missing, silent, and there again.

use super::*;
use crate::support::moto::Moto;
use crate::support::proxy::{Proxy, Way};

/// Prints what the bucket holds: the digest of the plain object, its type, and the same of the packed one, whose
/// content is unpacked.
const FEEDS_IN_BUCKET: &str = "
import gzip
def digest(body):
    return hashlib.sha256(body).hexdigest()
try:
    plain = s3.get_object(Bucket='shop', Key='feeds/google.csv')
    packed = s3.get_object(Bucket='shop', Key='feeds/google.csv.gz')
    bodies = [plain['Body'].read(), packed['Body'].read()]
    print(json.dumps({
        'plain': digest(bodies[0]), 'type': plain['ContentType'],
        'packed': digest(gzip.decompress(bodies[1])), 'packed_type': packed['ContentType'],
        'encodings': [plain.get('ContentEncoding'), packed.get('ContentEncoding')],
        'modified': str(plain['LastModified']),
        'uploads': s3.list_multipart_uploads(Bucket='shop').get('Uploads'),
    }))
except s3.exceptions.NoSuchKey:
    print('null')
";

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

// The feed was copied to the bucket by a script of the night, which once took half a file, and once failed for a
// week without a word.
#[test]
fn a_feed_is_in_its_bucket_whatever_happens_on_the_way() {
    let Some(moto) = Moto::start("that a feed is put into a bucket, as boto3 sees it") else {
        return;
    };
    // Its first answer takes long.
    moto.judge("s3.list_buckets()");
    let proxy = Proxy::before(moto.port());
    let to = format!(
        "interval = \"100ms\"\nto = \"s3://shop/feeds/google.csv\"\nendpoint = \"http://127.0.0.1:{}\"\nauth = {{ key = \"k\", secret = \"a-secret\" }}\ntimeout = \"5s\"",
        proxy.port()
    );
    let mut stage = Stage::with(&CATALOG.replace("interval = \"100ms\"", &to));
    let bucket = |stage: &Stage| stage.channel("google")["feed"]["bucket"].clone();
    let held = || -> Value { serde_json::from_str(&moto.judge(FEEDS_IN_BUCKET)).expect("JSON") };
    let is_newest = |stage: &Stage| {
        eventually("the newest generation is in the bucket", || {
            let feed = stage.channel("google")["feed"].clone();
            let put = &feed["bucket"];
            let same = put["generation"] == feed["generation"]["number"];
            (same && put["reason"].is_null()).then_some(())
        });
        let (served, held) = (fetch(stage, &[]), held());
        let digest = sha256(&served.body);
        assert_eq!(held["plain"], digest, "{held:#}");
        assert_eq!(held["packed"], digest, "{held:#}");
        held
    };

    // No bucket yet: the feed is served all the same, and everybody says why it is not there.
    let (code, text) = stage.check_connections(&[]);
    assert!(
        code == 1 && text.contains("there is no such bucket"),
        "{code:?} {text}"
    );
    stage.takes("pim", &changes(0..200, 1));
    holds(&stage, (0..200).map(|at| (at, 1)));
    eventually("the reason", || {
        let reason = bucket(&stage)["reason"].to_string();
        reason.contains("there is no such bucket").then_some(())
    });
    moto.judge("s3.create_bucket(Bucket='shop')");
    let first = is_newest(&stage);
    assert_eq!(first["type"], "text/csv; charset=utf-8");
    assert_eq!(first["packed_type"], "application/gzip");
    assert_eq!(first["encodings"], json!([null, null]));
    assert_eq!(first["uploads"], Value::Null);
    assert_eq!(stage.check_connections(&[]).0, 0);
    let (_, listed) = stage.tell(&["channel", "list"]);
    assert!(listed.contains("in its bucket"), "{listed}");

    // A network that swallows answers.
    proxy.is(Way::NoAnswers);
    stage.takes("pim", &changes(0..100, 2));
    let two = (0..200).map(|at| (at, if at < 100 { 2 } else { 1 }));
    holds(&stage, two);
    eventually("the reason", || {
        bucket(&stage)["reason"].is_string().then_some(())
    });
    assert_eq!(stage.channel("google")["state"], "flowing");
    proxy.is(Way::Open);
    proxy.cut();
    is_newest(&stage);

    // Killed in the middle of it; and a restart alone puts nothing.
    stage.takes("pim", &changes(0..200, 3));
    stage.kill();
    stage.start();
    holds(&stage, (0..200).map(|at| (at, 3)));
    let third = is_newest(&stage);
    stage.stop();
    stage.start();
    assert_eq!(is_newest(&stage)["modified"], third["modified"]);
    let config = stage.weir().get("/v1/config");
    assert!(!config.text().contains("a-secret"), "{}", config.text());
}
