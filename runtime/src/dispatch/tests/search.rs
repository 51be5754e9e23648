//! A channel that delivers to a search engine on a socket: what the index holds in the end is the newest
//! state, whatever the engine answered on the way.

use serde_json::{Value, json};

use super::*;
use crate::targets::fixture::{self, Fixture};
use crate::targets::http::{self, Address};
use crate::targets::search::{Dialect, Options as Search};

/// An index of Elasticsearch: versions decide, and a document whose price is not a number is refused.
#[derive(Default)]
struct Index {
    documents: BTreeMap<String, (u64, Value)>,
    deleted: BTreeMap<String, u64>,
    requests: usize,
}

impl Index {
    fn bulk(&mut self, body: &str) -> Value {
        let mut lines = body.lines();
        let mut items = Vec::new();
        while let Some(action) = lines.next() {
            let action: Value = serde_json::from_str(action).expect("an action");
            let (name, action) = action
                .as_object()
                .and_then(|action| action.iter().next())
                .expect("one action");
            let id = action["_id"].as_str().expect("an id").to_owned();
            let version = action["version"].as_u64().expect("a version");
            let known = self.documents.get(&id).map(|(version, _)| *version);
            let known = known.or_else(|| self.deleted.get(&id).copied());
            let document = (name == "index").then(|| {
                let line = lines.next().expect("a document");
                serde_json::from_str::<Value>(line).expect("a JSON document")
            });
            let result = match (known, document) {
                (Some(known), _) if known > version => json!({"status": 409, "error": {
                    "type": "version_conflict_engine_exception",
                    "reason": format!("[{id}]: version conflict, current version [{known}] is higher than the one provided [{version}]"),
                }}),
                (_, Some(document)) if document["facets"]["price"] == "bad" => {
                    json!({"status": 400, "error": {
                        "type": "document_parsing_exception", "reason": "failed to parse field [price]",
                    }})
                }
                (_, Some(document)) => {
                    self.documents.insert(id, (version, document));
                    json!({"status": 200})
                }
                (_, None) => {
                    let gone = self.documents.remove(&id).is_some();
                    self.deleted.insert(id, version);
                    json!({"status": if gone { 200 } else { 404 }})
                }
            };
            items.push(json!({ name.as_str(): result }));
        }
        json!({"errors": true, "items": items})
    }
}

#[tokio::test]
async fn a_search_index_holds_the_newest_state_and_a_bad_document_costs_only_itself() {
    use fixture::Reply;
    let index = Arc::new(Mutex::new(Index::default()));
    let engine = index.clone();
    let target = Fixture::start(move |asked| {
        if asked.method == "GET" {
            return Reply::Body(200, r#"{"products":{"aliases":{}}}"#.into());
        }
        let mut index = lock(&engine);
        index.requests += 1;
        match index.requests {
            1 => Reply::Status(429),
            // Applied, and the answer is lost.
            2 => {
                index.bulk(&asked.text());
                Reply::Close
            }
            _ => Reply::Body(200, index.bulk(&asked.text()).to_string()),
        }
    })
    .await;
    let kind = Kind::Search(Box::new(Search {
        dialect: Dialect::Elasticsearch,
        url: Address::parse(&target.url("")).expect("a URL"),
        index: "products".into(),
        prefix: String::new(),
        meta: true,
        http: http::Options {
            timeout: Duration::from_millis(900),
            ..http::Options::default()
        },
    }));
    let knobs = Knobs {
        options: Options {
            batch: 1000,
            ..options()
        },
        ..Knobs::default()
    };
    let nobody = Script::new(|_| super::Reply::Hang);
    let setup = setup_of(kind, Clock::system(), knobs);
    let story = Story::with(Arc::default(), nobody, setup).await;
    for number in 0..500 {
        story.set(&format!("e/{number}"), "price", "1");
    }
    story.set("wrong", "price", "\"bad\"");
    story.quiet().await;
    for number in 0..50 {
        story.set(&format!("e/{number}"), "price", "2");
    }
    story.delete("e/7");
    story.quiet().await;
    {
        let index = lock(&index);
        let known = |key: &str| index.documents.contains_key(key);
        assert_eq!(
            (index.documents.len(), known("wrong"), known("e_2f7")),
            (499, false, false)
        );
        let of = |key: &str| {
            index
                .documents
                .get(key)
                .map(|(_, document)| document.clone())
        };
        assert_eq!(of("e_2f7"), None);
        let document = of("e_2f3").expect("a document");
        assert_eq!(
            (&document["facets"]["price"], &document["weir_key"]),
            (&json!(2), &json!("e/3"))
        );
        assert_eq!(
            of("e_2f300").expect("a document")["facets"]["price"],
            json!(1)
        );
        assert!(index.requests <= 12, "{} requests", index.requests);
    }
    assert_eq!(story.channel.status().owed.refused, 1);
    story.end().await;
}
