//! The engines: how each kind, dialect and form writes a request and answers it.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;

use super::*;
use crate::signature::Secret;
use crate::targets::bucket::{self, Auth, Cloud, Place};
use crate::targets::http::{self, Address, Method};
use crate::targets::names::Template;
use crate::targets::search::{self, Dialect};
use crate::targets::webhook::{self, Format, ItemForm};

/// Plays one kind of target.
pub(super) trait Engine: Send + Sync + 'static {
    /// For messages.
    fn name(&self) -> String;

    /// The target at this URL.
    fn kind(&self, url: &str) -> Kind;

    /// Entities in one request.
    fn batch(&self) -> usize;

    /// The answer to a request that writes nothing; `None` if it is a write.
    fn look(&self, asked: &Asked, shop: &Shop) -> Option<Answer>;

    /// The items of a write: the id under which the target keeps each, and its document or `None` for a
    /// deletion.
    fn read(&self, asked: &Asked) -> Vec<(String, Option<Value>)>;

    /// The answer to a write with these bad items.
    fn answer(&self, asked: &Asked, shop: &mut Shop, bad: &[bool]) -> Answer;

    /// Whether it can keep an entity under this key; one that it cannot keep is refused.
    fn takes(&self, _key: &str) -> bool {
        true
    }

    /// Whether one bad item keeps the others out.
    fn all_or_nothing(&self) -> bool;

    /// The answer to one request too many.
    fn throttled(&self) -> Answer;

    /// The answer to wrong credentials.
    fn unauthorized(&self) -> Answer;

    /// The answer to a request that is too long.
    fn too_long(&self) -> Answer {
        Answer::Status(413)
    }
}

/// All engines.
pub(super) fn all() -> Vec<Arc<dyn Engine>> {
    let webhooks = [
        Webhook::Single,
        Webhook::Keyed,
        Webhook::Batch,
        Webhook::Lines,
        Webhook::Bare,
    ];
    let dialects = [
        Dialect::Elasticsearch,
        Dialect::OpenSearch,
        Dialect::Meilisearch,
        Dialect::Typesense,
        Dialect::Algolia,
    ];
    let webhooks = webhooks.map(|form| Arc::new(form) as Arc<dyn Engine>);
    let search = dialects.map(|dialect| Arc::new(Search(dialect)) as Arc<dyn Engine>);
    let bucket: Arc<dyn Engine> = Arc::new(Bucket::default());
    webhooks.into_iter().chain(search).chain([bucket]).collect()
}

fn http() -> http::Options {
    http::Options {
        timeout: Duration::from_secs(5),
        ..http::Options::default()
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().expect("a text").to_owned()
}

fn lines(asked: &Asked) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).expect("a JSON line");
    asked.text().lines().map(line).collect()
}

/// A webhook in one of its forms.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Webhook {
    /// One entity a request.
    Single,
    /// One entity a request, at a URL of its own.
    Keyed,
    /// An array of envelopes, answered item by item.
    Batch,
    /// The same as lines.
    Lines,
    /// An array of contents, answered as a whole.
    Bare,
}

impl Engine for Webhook {
    fn name(&self) -> String {
        format!("webhook, {self:?}")
    }

    fn kind(&self, url: &str) -> Kind {
        let path = match self {
            Webhook::Keyed => "/p/{key}",
            _ => "/weir",
        };
        let address = Address::parse(&format!("{url}{path}")).expect("a URL");
        let mut options = webhook::Options {
            http: http(),
            ..webhook::Options::new(address)
        };
        match self {
            Webhook::Lines => options.format = Format::Ndjson,
            Webhook::Bare => {
                options.form = ItemForm::Bare;
                options.delete_body = Some(r#"{"key":"{key}","deleted":true}"#.into());
            }
            _ => {}
        }
        Kind::Webhook(Box::new(options))
    }

    fn batch(&self) -> usize {
        match self {
            Webhook::Single | Webhook::Keyed => 1,
            _ => 100,
        }
    }

    fn look(&self, _: &Asked, _: &Shop) -> Option<Answer> {
        None
    }

    fn read(&self, asked: &Asked) -> Vec<(String, Option<Value>)> {
        let there = |value: &Value| value["deleted"] != true;
        let bare = |value: Value| (text(&value, "key"), there(&value).then_some(value));
        let envelope = |value: Value| {
            let content = value["content"].clone();
            (text(&value, "key"), there(&value).then_some(content))
        };
        match self {
            Webhook::Single => vec![bare(asked.json())],
            Webhook::Keyed => {
                let encoded = asked.path.strip_prefix("/p/").expect("a key");
                let key = percent_decode_str(encoded).decode_utf8().expect("text");
                let document = (asked.method == "PUT").then(|| asked.json());
                vec![(key.into_owned(), document)]
            }
            Webhook::Lines => lines(asked).into_iter().map(envelope).collect(),
            Webhook::Batch | Webhook::Bare => {
                let Value::Array(items) = asked.json() else {
                    panic!("an array: {}", asked.text())
                };
                match self {
                    Webhook::Batch => items.into_iter().map(envelope).collect(),
                    _ => items.into_iter().map(bare).collect(),
                }
            }
        }
    }

    fn answer(&self, asked: &Asked, _: &mut Shop, bad: &[bool]) -> Answer {
        let items = match self {
            Webhook::Batch => asked.json().as_array().cloned().unwrap_or_default(),
            Webhook::Lines => lines(asked),
            _ if bad.contains(&true) => return Answer::Body(400, "a price is no number".into()),
            _ => return Answer::Status(204),
        };
        let results = items.iter().zip(bad).map(|(item, bad)| {
            let status = if *bad { 400 } else { 200 };
            json!({"id": item["id"], "status": status})
        });
        Answer::Body(
            200,
            json!({"items": results.collect::<Vec<_>>()}).to_string(),
        )
    }

    fn takes(&self, key: &str) -> bool {
        // In a path these two mean another one.
        *self != Webhook::Keyed || !matches!(key, "." | "..")
    }

    fn all_or_nothing(&self) -> bool {
        *self == Webhook::Bare
    }

    fn throttled(&self) -> Answer {
        Answer::Header(429, "retry-after", "0".into())
    }

    fn unauthorized(&self) -> Answer {
        Answer::Status(401)
    }
}

/// A search engine of a dialect.
struct Search(Dialect);

impl Search {
    /// The ids in a URL of Typesense that deletes.
    fn deleted(asked: &Asked) -> Vec<String> {
        let (_, ids) = asked.path.split_once("filter_by=id:%5B").expect("ids");
        let ids = ids.strip_suffix("%5D").expect("the end of the ids");
        ids.split(',').map(str::to_owned).collect()
    }

    fn mark(asked: &Asked) -> String {
        let mark = asked.path.split_once("customMetadata=");
        mark.map(|(_, mark)| mark.to_owned()).expect("a mark")
    }
}

impl Engine for Search {
    fn name(&self) -> String {
        format!("search, {:?}", self.0)
    }

    fn kind(&self, url: &str) -> Kind {
        Kind::Search(Box::new(search::Options {
            dialect: self.0,
            url: Address::parse(url).expect("a URL"),
            index: "products".into(),
            prefix: String::new(),
            meta: true,
            http: http(),
        }))
    }

    fn batch(&self) -> usize {
        500
    }

    fn look(&self, asked: &Asked, shop: &Shop) -> Option<Answer> {
        if asked.method != Method::GET.as_str() {
            return None;
        }
        let body = match asked.path.as_str() {
            "/products?filter_path=*.aliases,*.settings.index.uuid" => {
                json!({"products": {"aliases": {}}})
            }
            "/indexes/products" => json!({"uid": "products", "primaryKey": "id"}),
            "/collections/products" => json!({"name": "products", "fields": []}),
            path if path.starts_with("/1/indexes/products/task/") => {
                json!({"status": "published", "pendingTask": false})
            }
            path if path.starts_with("/tasks?") => {
                let tasks = shop.tasks.iter().enumerate().rev().take(100);
                let tasks =
                    tasks.map(|(uid, (mark, _))| json!({"uid": uid, "customMetadata": mark}));
                json!({"results": tasks.collect::<Vec<_>>()})
            }
            path => {
                let uid = path.strip_prefix("/tasks/").expect("a known path");
                let uid: usize = uid.parse().expect("a number");
                let error = json!({"message": "a price is no number", "code": "invalid_document_fields", "type": "invalid_request"});
                match shop.tasks[uid].1 {
                    true => json!({"uid": uid, "status": "failed", "error": error}),
                    false => json!({"uid": uid, "status": "succeeded", "error": null}),
                }
            }
        };
        Some(Answer::Body(200, body.to_string()))
    }

    fn read(&self, asked: &Asked) -> Vec<(String, Option<Value>)> {
        let with =
            |name: &'static str| move |document: Value| (text(&document, name), Some(document));
        match self.0 {
            Dialect::Elasticsearch | Dialect::OpenSearch => {
                let (mut lines, mut items) = (lines(asked).into_iter(), Vec::new());
                while let Some(action) = lines.next() {
                    match (action.get("index"), action.get("delete")) {
                        (Some(put), _) => items.push((text(put, "_id"), lines.next())),
                        (_, Some(gone)) => items.push((text(gone, "_id"), None)),
                        _ => panic!("an action: {action}"),
                    }
                }
                items
            }
            Dialect::Meilisearch if asked.path.contains("/delete-batch") => {
                let ids: Vec<String> = serde_json::from_value(asked.json()).expect("ids");
                ids.into_iter().map(|id| (id, None)).collect()
            }
            Dialect::Meilisearch => lines(asked).into_iter().map(with("id")).collect(),
            Dialect::Typesense if asked.method == "DELETE" => {
                let ids = Search::deleted(asked).into_iter();
                ids.map(|id| (id, None)).collect()
            }
            Dialect::Typesense => lines(asked).into_iter().map(with("id")).collect(),
            Dialect::Algolia => {
                let request = asked.json();
                let actions = request["requests"].as_array().expect("actions");
                let item = |action: &Value| {
                    let body = action["body"].clone();
                    let put = action["action"] == "updateObject";
                    (text(&body, "objectID"), put.then_some(body))
                };
                actions.iter().map(item).collect()
            }
        }
    }

    fn answer(&self, asked: &Asked, shop: &mut Shop, bad: &[bool]) -> Answer {
        let body = match self.0 {
            Dialect::Elasticsearch | Dialect::OpenSearch => {
                let wrong = json!({"type": "document_parsing_exception", "reason": "failed to parse field [price]"});
                let result = |bad: &bool| match bad {
                    true => json!({"index": {"status": 400, "error": wrong}}),
                    false => json!({"index": {"status": 200}}),
                };
                let items: Vec<_> = bad.iter().map(result).collect();
                json!({"errors": bad.contains(&true), "items": items}).to_string()
            }
            Dialect::Meilisearch => {
                shop.tasks.push((Search::mark(asked), bad.contains(&true)));
                let task = json!({"taskUid": shop.tasks.len() - 1, "indexUid": "products", "status": "enqueued"});
                return Answer::Body(202, task.to_string());
            }
            Dialect::Typesense if asked.method == "DELETE" => {
                json!({"num_deleted": bad.len()}).to_string()
            }
            Dialect::Typesense => {
                let result = |bad: &bool| match bad {
                    true => {
                        json!({"success": false, "code": 400, "error": "Field `price` must be a float."})
                    }
                    false => json!({"success": true}),
                };
                let results: Vec<_> = bad.iter().map(|bad| result(bad).to_string()).collect();
                results.join("\n")
            }
            Dialect::Algolia => match bad.iter().position(|bad| *bad) {
                Some(at) => {
                    let message = format!(
                        "Record at the position {at} objectID=x is too big size=11072/10000 bytes."
                    );
                    let body =
                        json!({"message": message, "position": at, "objectID": "x", "status": 400});
                    return Answer::Body(400, body.to_string());
                }
                None => json!({"taskID": 5, "objectIDs": []}).to_string(),
            },
        };
        Answer::Body(200, body)
    }

    fn all_or_nothing(&self) -> bool {
        matches!(self.0, Dialect::Meilisearch | Dialect::Algolia)
    }

    fn throttled(&self) -> Answer {
        let body = match self.0 {
            Dialect::Elasticsearch | Dialect::OpenSearch => {
                json!({"error": {"type": "circuit_breaking_exception", "reason": "Data too large"}, "status": 429})
            }
            Dialect::Algolia => json!({"message": "Too many jobs", "status": 429}),
            // A proxy before the engine; its own answers are in the tests of the dialect.
            Dialect::Meilisearch | Dialect::Typesense => json!({}),
        };
        Answer::Body(429, body.to_string())
    }

    fn unauthorized(&self) -> Answer {
        let (status, body) = match self.0 {
            Dialect::Elasticsearch | Dialect::OpenSearch => (
                401,
                json!({"error": {"type": "security_exception", "reason": "unable to authenticate with provided credentials"}, "status": 401}),
            ),
            Dialect::Meilisearch => (
                403,
                json!({"message": "The provided API key is invalid.", "code": "invalid_api_key", "type": "auth"}),
            ),
            Dialect::Typesense => (
                401,
                json!({"message": "Forbidden - a valid `x-typesense-api-key` header must be sent."}),
            ),
            Dialect::Algolia => (
                403,
                json!({"message": "Invalid Application-ID or API key", "status": 403}),
            ),
        };
        Answer::Body(status, body.to_string())
    }
}

/// A bucket that speaks the protocol of S3.
#[derive(Default)]
struct Bucket {
    /// What each object has as metadata, by its name.
    metadata: Mutex<HashMap<String, String>>,
}

impl Bucket {
    fn name(asked: &Asked) -> String {
        let name = asked.path.strip_prefix("/shop/p/").expect("an object");
        let name = percent_decode_str(name).decode_utf8().expect("text");
        name.into_owned()
    }

    fn error(status: u16, code: &str) -> Answer {
        let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        Answer::Body(status, body)
    }
}

impl Engine for Bucket {
    fn name(&self) -> String {
        "bucket".into()
    }

    fn kind(&self, url: &str) -> Kind {
        Kind::Bucket(Box::new(bucket::Options {
            place: Place {
                cloud: Cloud::S3,
                bucket: "shop".into(),
                region: None,
                endpoint: Some(Address::parse(url).expect("a URL")),
                auth: Auth::Key {
                    key: "the-key".into(),
                    secret: Secret(b"the-secret".to_vec()),
                    token: None,
                },
                checksum: None,
                timeout: Duration::from_secs(1),
                connections: http::Connections::default(),
            },
            name: Template::parse("p/{key}.json", false).expect("a template"),
            precondition: false,
            spacing: Duration::ZERO,
        }))
    }

    fn batch(&self) -> usize {
        1
    }

    fn look(&self, asked: &Asked, shop: &Shop) -> Option<Answer> {
        if asked.method != "HEAD" {
            return None;
        }
        let name = Bucket::name(asked);
        let Some(document) = shop.held.get(&name) else {
            return Some(Answer::Status(404));
        };
        let headers = lock(&self.metadata).get(&name).cloned();
        let length = document.to_string().len();
        Some(Answer::Head(length, headers.unwrap_or_default()))
    }

    fn read(&self, asked: &Asked) -> Vec<(String, Option<Value>)> {
        let document = (asked.method == "PUT").then(|| asked.json());
        vec![(Bucket::name(asked), document)]
    }

    fn answer(&self, asked: &Asked, _: &mut Shop, bad: &[bool]) -> Answer {
        if bad == [true] {
            return Bucket::error(400, "InvalidArgument");
        }
        let mut metadata = lock(&self.metadata);
        if asked.method == "DELETE" {
            metadata.remove(&Bucket::name(asked));
            return Answer::Status(204);
        }
        let ours = asked
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-amz-meta-"));
        let lines = ours.map(|(name, value)| format!("{name}: {value}\r\n"));
        metadata.insert(Bucket::name(asked), lines.collect());
        Answer::Header(200, "etag", "\"1\"".into())
    }

    fn all_or_nothing(&self) -> bool {
        false
    }

    fn throttled(&self) -> Answer {
        Bucket::error(503, "SlowDown")
    }

    fn unauthorized(&self) -> Answer {
        Bucket::error(403, "AccessDenied")
    }
}
