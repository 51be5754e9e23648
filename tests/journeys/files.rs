//! Files and buckets, from outside: events come in, and files, lines and objects hold the newest state,
//! whatever happens to Weir meanwhile.
//!
//! `WEIR_KILLS_FILES=50 cargo test --test journeys files::` runs more rounds.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::power;
use crate::support::disk::Disk;
use crate::support::http::Connection;
use crate::support::moto::Moto;
use crate::support::{Stage, becomes, change, deletion, eventually, repeats};

const FILES: &str = r#"
[entities.product]
facets.content = { owner = "pim" }
[sources.pim]
[targets.files]
kind = "file"
path = "out/{entity}/{key}.json"
[targets.lines]
kind = "file"
path = "out/all.ndjson"
rotate = { bytes = "64KiB" }
[channels.files]
entity = "product"
facets = ["content"]
target = "files"
[channels.lines]
entity = "product"
facets = ["content"]
target = "lines"
"#;

/// The number of kills in a run of all tests.
const ROUNDS: usize = 5;
const CLIENTS: usize = 8;

/// All lines of a file and of the old ones before it. Only the last one may have no end, of a Weir that was
/// killed.
pub fn lines(folder: &Path, killed: bool) -> Vec<Value> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("text")
    };
    let mut names: Vec<String> = entries
        .map(name)
        .filter(|name| name.ends_with(".ndjson"))
        .collect();
    // The times in the names of old files sort before the name without one.
    names.sort_unstable();
    let mut lines = Vec::new();
    for name in names {
        let mut text = match std::fs::read_to_string(folder.join(&name)) {
            Ok(text) => text,
            // A new one was begun meanwhile, and this one has another name.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self::lines(folder, killed);
            }
            Err(error) => panic!("{name}: {error}"),
        };
        if killed && name == "all.ndjson" {
            text.truncate(text.rfind('\n').map_or(0, |at| at + 1));
        }
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "{name} ends in the middle of a line"
        );
        for line in text.lines() {
            lines.push(serde_json::from_str(line).unwrap_or_else(|_| panic!("{name}: {line:?}")));
        }
    }
    lines
}

/// What the lines say of each entity in the end.
pub fn held(lines: &[Value]) -> BTreeMap<String, Value> {
    let mut held = BTreeMap::new();
    for line in lines {
        let key = line["key"].as_str().expect("a key").to_owned();
        match line["deleted"] == true {
            true => held.remove(&key),
            false => held.insert(key, line["content"]["facets"]["content"].clone()),
        };
    }
    held
}

/// What the files of a folder say.
pub fn files(folder: &Path) -> BTreeMap<String, Value> {
    let Ok(entries) = std::fs::read_dir(folder.join("product")) else {
        return BTreeMap::new();
    };
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).ok()?;
        // Not one of Weir's own, that has no name yet.
        let value: Value = match path.extension() {
            Some(_) => serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path:?}: {text:?}")),
            None => return None,
        };
        Some((
            value["key"].as_str()?.to_owned(),
            value["facets"]["content"].clone(),
        ))
    };
    entries.filter_map(file).collect()
}

#[test]
fn files_and_lines_survive_kills_and_hold_the_newest_state() {
    let mut stage = Stage::closed(FILES);
    let out = stage.folder().join("out");
    std::fs::create_dir(&out).expect("a folder");
    survive(&mut stage, &out, 50..400, |stage| {
        stage.weir().signal(rustix::process::Signal::KILL);
        stage.kill();
        // Whatever was under way: whole lines but for the last, and whole files.
        lines(&stage.folder().join("out"), true);
        files(&stage.folder().join("out"));
        stage.start();
    });
}

// What was acknowledged must be synced: a kill does not show it, because the page cache survives it.
#[test]
fn files_and_lines_survive_power_cuts_and_hold_the_newest_state() {
    let mut stage = Stage::closed(&FILES.replace("\"out/", "\"data/out/"));
    let Some(disk) = Disk::mount(stage.folder(), 600) else {
        return eprintln!(
            "NOT RUN: no root or no loop mounts here; files were not tested in a power cut"
        );
    };
    let out = stage.folder().join("data/out");
    std::fs::create_dir(&out).expect("a folder");
    // The folder is there before the first cut.
    let above = std::fs::File::open(stage.folder().join("data"));
    above.and_then(|it| it.sync_all()).expect("synced");
    // Longer than it takes until the store says what was delivered: then nothing is sent again by itself.
    survive(&mut stage, &out, 1_200..2_500, |stage| {
        power::cut(stage, &disk);
        power::powered_again(stage, &disk);
    });
    stage.kill();
}

/// Sends changes while Weir dies and starts again, and compares what is there in the end with what was accepted.
fn survive(stage: &mut Stage, out: &Path, life: std::ops::Range<u64>, dies: impl Fn(&mut Stage)) {
    let rounds = repeats("WEIR_KILLS_FILES", ROUNDS);
    let accepted: Vec<AtomicU64> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    stage.start();
    for round in 0..rounds {
        let over = AtomicBool::new(false);
        let life = Duration::from_millis(fastrand::u64(life.clone()));
        let address = stage.weir().address();
        std::thread::scope(|scope| {
            for (client, accepted) in accepted.iter().enumerate() {
                let over = &over;
                scope.spawn(move || send(address, client, accepted, over));
            }
            std::thread::sleep(life);
            dies(stage);
            over.store(true, Ordering::SeqCst);
        });
        assert!(
            !stage.weir().log().contains("ERROR"),
            "round {round}: {}",
            stage.weir().log()
        );
        let before = lines(out, true).len();
        eventually("lines are appended again", || {
            stage.takes("pim", &[change("again", "content", json!(round))]);
            (lines(out, true).len() > before).then_some(())
        });
    }
    stage.takes("pim", &[deletion("again", "content")]);
    stage.settles("files");
    stage.settles("lines");
    let written = lines(out, false);
    let (lines, files) = (held(&written), files(out));
    println!(
        "{rounds} kills, {} lines of {} entities",
        written.len(),
        lines.len()
    );
    assert_eq!(lines, files);
    for (client, accepted) in accepted.iter().enumerate() {
        let there = lines[&format!("c{client}")].as_u64().expect("a number");
        // The last one may have been accepted without an answer.
        let accepted = accepted.load(Ordering::SeqCst);
        assert!(
            there == accepted || there == accepted + 1,
            "c{client}: {there}, {accepted}"
        );
        for number in 1..=accepted {
            let key = format!("c{client}-{number}");
            assert_eq!(lines.get(&key), Some(&json!(number)), "{key} is lost");
        }
    }
    // Numbers of an entity never fall from line to line.
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &written {
        let key = line["key"].as_str().expect("a key");
        let Some(number) = line["content"]["facets"]["content"].as_u64() else {
            continue;
        };
        let before = last.insert(key, number);
        assert!(
            before.is_none_or(|before| before <= number),
            "{key}: {before:?}, {number}"
        );
    }
}

/// Sends rising numbers until Weir is gone, at a pace that files bear.
fn send(address: SocketAddr, client: usize, accepted: &AtomicU64, over: &AtomicBool) {
    let Ok(mut connection) = Connection::open(address) else {
        return;
    };
    while !over.load(Ordering::SeqCst) {
        let number = accepted.load(Ordering::SeqCst) + 1;
        // One that changes all the time, and one that never changes again: what is lost of it stays lost.
        let keys = [format!("c{client}"), format!("c{client}-{number}")];
        let lines = keys.map(|key| change(&key, "content", json!(number)).to_string());
        let body = lines.join("\n");
        let headers = [("content-type", "application/x-ndjson")];
        let path = "/v1/sources/pim/events";
        match connection.exchange("POST", path, &headers, body.as_bytes()) {
            Ok(reply) if reply.status == 202 => accepted.store(number, Ordering::SeqCst),
            Ok(reply) => panic!("{} {}", reply.status, reply.text()),
            // Weir was killed.
            Err(_) => return,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

// The file of an export was emptied by a script. Weir went on appending, and half of the catalogue was
// missing until each product had changed once more.
#[test]
fn a_file_that_was_emptied_is_filled_again_by_itself() {
    let mut stage = Stage::closed(FILES);
    let out = stage.folder().join("out");
    std::fs::create_dir(&out).expect("a folder");
    stage.start();
    let product = |number: usize| format!("p{number}");
    let changes: Vec<Value> = (0..50)
        .map(|number| change(&product(number), "content", json!(1)))
        .collect();
    stage.takes("pim", &changes);
    let expected: BTreeMap<String, Value> =
        (0..50).map(|number| (product(number), json!(1))).collect();
    becomes("the lines", expected.clone(), || held(&lines(&out, false)));
    becomes("the files", expected.clone(), || files(&out));

    std::fs::write(out.join("all.ndjson"), "").expect("it is emptied");
    std::fs::remove_dir_all(out.join("product")).expect("it is removed");
    std::fs::remove_file(out.join(".weir-folder")).expect("it is removed");
    stage.takes("pim", &[change("p7", "content", json!(2))]);
    let mut expected = expected;
    expected.insert("p7".into(), json!(2));
    becomes("the lines again", expected.clone(), || {
        held(&lines(&out, false))
    });
    becomes("the files again", expected.clone(), || files(&out));
    stage.settles("files");
    stage.settles("lines");
}

/// Prints all objects as JSON: the content by the key that is in their metadata.
const OBJECTS: &str = "
found = {}
for page in s3.get_paginator('list_objects_v2').paginate(Bucket='shop', Prefix='products/'):
    for name in [entry['Key'] for entry in page.get('Contents', [])]:
        read = s3.get_object(Bucket='shop', Key=name)
        found[read['Metadata']['weir-key']] = json.loads(read['Body'].read())['facets']['content']
print(json.dumps(found))
";

// The bucket was missing on the first day: nothing was refused, and all objects were there when it was.
#[test]
fn a_bucket_holds_the_newest_state_of_each_entity() {
    let proves = "that a bucket holds what boto3 reads";
    let Some(moto) = Moto::start(proves) else {
        return;
    };
    let config = r#"
[entities.product]
facets.content = { owner = "pim" }
[sources.pim]
[targets.lake]
kind = "bucket"
url = "s3://shop/products/{key}.json"
endpoint = "http://127.0.0.1:{port}"
auth = { key = "k", secret = "a-secret" }
[channels.lake]
entity = "product"
facets = ["content"]
target = "lake"
retry = { first = "20ms", cap = "100ms" }
"#
    .replace("{port}", &moto.port().to_string());
    let mut stage = Stage::with(&config);
    let (code, text) = stage.check_connections(&[]);
    assert!(
        code == 1 && text.contains("there is no such bucket"),
        "{code:?} {text}"
    );
    let changes: Vec<Value> = (0..40)
        .map(|number| change(&format!("p{number}"), "content", json!(1)))
        .collect();
    stage.takes("pim", &changes);
    becomes("it is tripped and says why", true, || {
        let channel = stage.channel("lake");
        let reason = channel["reason"].to_string();
        channel["state"] == "tripped" && reason.contains("there is no such bucket")
    });
    moto.judge("s3.create_bucket(Bucket='shop')");
    stage.settles("lake");
    assert_eq!(stage.refused("lake"), Vec::<Value>::new());

    // Weir is killed while objects are written.
    let changes: Vec<Value> = (0..20)
        .map(|number| change(&format!("p{number}"), "content", json!(2)))
        .collect();
    stage.takes("pim", &changes);
    stage.kill();
    stage.start();
    stage.takes(
        "pim",
        &[
            deletion("p39", "content"),
            change("ä/ö", "content", json!(3)),
        ],
    );
    stage.settles("lake");
    let found: BTreeMap<String, Value> = serde_json::from_str(&moto.judge(OBJECTS)).expect("JSON");
    let mut expected: BTreeMap<String, Value> = (0..39)
        .map(|number| (format!("p{number}"), json!(if number < 20 { 2 } else { 1 })))
        .collect();
    expected.insert("%C3%A4%2F%C3%B6".into(), json!(3));
    assert_eq!(found, expected);
    let config = stage.weir().get("/v1/config");
    assert!(!config.text().contains("a-secret"), "{}", config.text());
}
