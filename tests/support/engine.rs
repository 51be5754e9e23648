//! A search engine on a port of its own, in each dialect that Weir writes: it keeps documents as the
//! real one does, and says what the real one says.
//!
//! Elasticsearch and OpenSearch compare versions and create an index that is missing, as Meilisearch
//! does. A task of Meilisearch takes all of its documents or none. Typesense answers line by line.
//! A document with the word `unfit` in it is one that the engine does not take.

mod reads;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::receiver::Delivery;
use super::{Act, Receiver};

/// Whose requests an engine understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Elasticsearch,
    OpenSearch,
    Meilisearch,
    Typesense,
    Algolia,
}

impl Dialect {
    pub const ALL: [Dialect; 5] = [
        Dialect::Elasticsearch,
        Dialect::OpenSearch,
        Dialect::Meilisearch,
        Dialect::Typesense,
        Dialect::Algolia,
    ];

    /// Its name in a configuration.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// How an engine treats writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// It takes no document, for a reason that is none of theirs: the disk or the plan is full.
    Full,
    /// Elasticsearch: a document has a field that its mapping has no room for.
    NoField,
    /// It applies a write and never answers.
    Silent,
}

/// An engine with one index, `products`.
pub struct Engine {
    receiver: Receiver,
    index: Arc<Mutex<Index>>,
}

struct Index {
    dialect: Dialect,
    mood: Mood,
    there: bool,
    /// How often it was made again.
    made: usize,
    /// The index was missing, and a write has created it with a mapping of the engine's own.
    guessed: bool,
    /// `products` is an alias of an index.
    alias: bool,
    /// By id, with the version.
    documents: BTreeMap<String, (u64, Value)>,
    /// Versions of deleted documents.
    deleted: BTreeMap<String, u64>,
    /// Tasks with their end: an error, or null.
    tasks: Vec<Value>,
    writes: usize,
    /// Documents that the list of all ids has passed.
    scrolled: usize,
}

impl Engine {
    /// Starts one with an empty index.
    pub fn start(dialect: Dialect) -> Engine {
        let index = Arc::new(Mutex::new(Index {
            dialect,
            mood: Mood::Well,
            there: true,
            made: 0,
            guessed: false,
            alias: false,
            documents: BTreeMap::new(),
            deleted: BTreeMap::new(),
            tasks: Vec::new(),
            writes: 0,
            scrolled: 0,
        }));
        let (receiver, serving) = (Receiver::start(), index.clone());
        receiver.does(move |request| lock(&serving).answer(request));
        Engine { receiver, index }
    }

    /// Without a path.
    pub fn url(&self) -> String {
        self.receiver.url().trim_end_matches("/weir").to_owned()
    }

    /// The content of each document by its key, as Weir has written it.
    pub fn holds(&self) -> BTreeMap<String, Value> {
        let index = lock(&self.index);
        let held = index.documents.values().map(|(_, document)| {
            let key = document["weir_key"].as_str().unwrap_or_default();
            (key.to_owned(), document["facets"]["content"].clone())
        });
        held.collect()
    }

    pub fn documents(&self) -> usize {
        lock(&self.index).documents.len()
    }

    pub fn is(&self, mood: Mood) {
        lock(&self.index).mood = mood;
    }

    /// From now on the name is that of an alias.
    pub fn is_behind_an_alias(&self) {
        lock(&self.index).alias = true;
    }

    /// The index is dropped with all that it holds, or created again.
    pub fn index_is_there(&self, there: bool) {
        let mut index = lock(&self.index);
        index.there = there;
        index.made += 1;
        index.documents.clear();
        index.deleted.clear();
    }

    /// Somebody else changes the documents, by their ids.
    pub fn changes(&self, change: impl FnOnce(&mut BTreeMap<String, (u64, Value)>)) {
        change(&mut lock(&self.index).documents);
    }

    /// Whether a write has created the index.
    pub fn was_guessed(&self) -> bool {
        lock(&self.index).guessed
    }

    /// The requests that write or delete.
    pub fn writes(&self) -> usize {
        lock(&self.index).writes
    }
}

impl Index {
    fn answer(&mut self, request: &Delivery) -> Act {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if request.method == "GET" {
            return self.look(path);
        }
        let body = String::from_utf8_lossy(&request.body);
        if let Some(answer) = self.read(path, &body) {
            return answer;
        }
        self.writes += 1;
        let act = match self.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => self.bulk(query, &body),
            Dialect::Meilisearch => self.task(path, &body),
            Dialect::Typesense if request.method == "DELETE" => self.delete_by(query),
            Dialect::Typesense => self.import(&body),
            Dialect::Algolia => self.batch(&body),
        };
        match self.mood {
            Mood::Silent => Act::Hang(true),
            Mood::Well | Mood::Full | Mood::NoField => act,
        }
    }

    fn look(&self, path: &str) -> Act {
        let missing = |body: Value| Act::Say(404, body.to_string());
        let name = if self.alias {
            "products-v1"
        } else {
            "products"
        };
        let say = |body: Value| Act::Say(200, json!({ name: body }).to_string());
        match self.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch if !self.there => missing(json!({
                "error": {"type": "index_not_found_exception", "reason": "no such index [products]"},
                "status": 404,
            })),
            Dialect::Elasticsearch | Dialect::OpenSearch => match path.rsplit('/').next() {
                Some("_mapping") => say(json!({"mappings": {"properties": {}}})),
                Some("products") => {
                    let aliases = match self.alias {
                        true => json!({"products": {}}),
                        false => json!({}),
                    };
                    let settings = json!({"index": {"uuid": format!("uuid-{}", self.made)}});
                    say(json!({"aliases": aliases, "settings": settings}))
                }
                _ => Act::Say(200, "{}".into()),
            },
            Dialect::Meilisearch => match path.strip_prefix("/tasks/") {
                Some(number) => {
                    let task = number.parse().ok().and_then(|at: usize| self.tasks.get(at));
                    let error = task.cloned().unwrap_or(Value::Null);
                    let status = if error.is_null() {
                        "succeeded"
                    } else {
                        "failed"
                    };
                    let body = json!({"uid": 0, "status": status, "error": error});
                    Act::Say(200, body.to_string())
                }
                None if path == "/tasks" => Act::Say(200, r#"{"results":[]}"#.into()),
                None if self.there => {
                    let created = format!("2026-11-30T00:00:{:02}Z", self.made);
                    let body = json!({"uid": "products", "primaryKey": "id", "createdAt": created});
                    Act::Say(200, body.to_string())
                }
                None => missing(json!({
                    "message": "Index `products` not found.", "code": "index_not_found",
                    "type": "invalid_request",
                })),
            },
            Dialect::Typesense if self.there => {
                let body = json!({"name": "products", "created_at": 1_795_000_000 + self.made});
                Act::Say(200, body.to_string())
            }
            Dialect::Typesense => missing(json!({"message": "Not Found"})),
            Dialect::Algolia => {
                Act::Say(200, r#"{"status":"published","pendingTask":false}"#.into())
            }
        }
    }

    fn bulk(&mut self, query: &str, body: &str) -> Act {
        if !self.there && !query.contains("require_alias=true") {
            (self.there, self.guessed) = (true, true);
        }
        if !body.ends_with('\n') {
            let reason = "The bulk request must be terminated by a newline [\\n]";
            let error = json!({"type": "illegal_argument_exception", "reason": reason});
            return Act::Say(400, json!({"error": error, "status": 400}).to_string());
        }
        let (mut lines, mut items) = (body.lines(), Vec::new());
        while let Some(line) = lines.next() {
            let action: Value = serde_json::from_str(line).expect("an action");
            let (name, action) = action
                .as_object()
                .and_then(|it| it.iter().next())
                .expect("one");
            let id = action["_id"].as_str().expect("an id").to_owned();
            let version = action["version"].as_u64().expect("a version");
            let document = (name == "index").then(|| lines.next().expect("a document"));
            if id.len() > 512 {
                let reason = format!(
                    "Validation Failed: 1: id [{id}] is too long, must be no longer than 512 bytes but was: {};",
                    id.len()
                );
                let error =
                    json!({"type": "action_request_validation_exception", "reason": reason});
                return Act::Say(400, json!({"error": error, "status": 400}).to_string());
            }
            let (status, error) = self.bulk_item(&id, version, document);
            let mut item = json!({"_index": "products", "_id": id, "status": status});
            if let Some((kind, reason)) = error {
                item["error"] = json!({"type": kind, "reason": reason});
            }
            items.push(json!({name.as_str(): item}));
        }
        let errors = items.iter().any(|item| item.to_string().contains("error"));
        // Some proxies format what they pass on.
        let body = format!("{:#}", json!({"took": 1, "errors": errors, "items": items}));
        Act::Say(200, body)
    }

    fn bulk_item(
        &mut self,
        id: &str,
        version: u64,
        document: Option<&str>,
    ) -> (u16, Option<(&'static str, String)>) {
        if !self.there {
            let reason = "no such index [products] and [require_alias] request flag is [true] and [products] is not an alias";
            return (404, Some(("index_not_found_exception", reason.into())));
        }
        if self.mood == Mood::Full {
            let (status, reason) = match self.dialect {
                Dialect::Elasticsearch => (
                    429,
                    "index [products] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block];",
                ),
                _ => (
                    403,
                    "blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];",
                ),
            };
            return (status, Some(("cluster_block_exception", reason.into())));
        }
        if self.mood == Mood::NoField && document.is_some() {
            let reason =
                "Limit of total fields [1000] has been exceeded while adding new fields [1]";
            return (400, Some(("illegal_argument_exception", reason.into())));
        }
        let known = self.documents.get(id).map(|(version, _)| *version);
        let known = known.or_else(|| self.deleted.get(id).copied());
        if let Some(known) = known.filter(|known| *known > version) {
            let reason = format!(
                "[{id}]: version conflict, current version [{known}] is higher than the one provided [{version}]"
            );
            return (409, Some(("version_conflict_engine_exception", reason)));
        }
        match document {
            Some(document) if document.contains("unfit") => {
                let kind = match self.dialect {
                    Dialect::Elasticsearch => "document_parsing_exception",
                    _ => "mapper_parsing_exception",
                };
                (400, Some((kind, "failed to parse field [content]".into())))
            }
            Some(document) => {
                self.put(id, version, document);
                (200, None)
            }
            None => {
                let gone = self.documents.remove(id).is_some();
                self.deleted.insert(id.to_owned(), version);
                (if gone { 200 } else { 404 }, None)
            }
        }
    }

    fn put(&mut self, id: &str, version: u64, document: &str) {
        let document = serde_json::from_str(document).expect("a JSON document");
        self.documents.insert(id.to_owned(), (version, document));
    }

    fn task(&mut self, path: &str, body: &str) -> Act {
        if self.mood == Mood::Full {
            let body = json!({
                "message": "Meilisearch cannot receive write operations because the limit of the task database has been reached. Please delete tasks to continue performing write operations.",
                "code": "no_space_left_on_device", "type": "system",
            });
            return Act::Say(422, body.to_string());
        }
        if !self.there {
            (self.there, self.guessed) = (true, true);
        }
        let error = if path.ends_with("/delete-batch") {
            let ids: Vec<String> = serde_json::from_str(body).expect("a list of ids");
            ids.iter().for_each(|id| drop(self.documents.remove(id)));
            Value::Null
        } else {
            let fine = |id: &str| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                (1..=511).contains(&id.len()) && id.bytes().all(plain)
            };
            let wrong =
                |code: &str| json!({"message": "m", "code": code, "type": "invalid_request"});
            let documents = documents(body);
            let error = documents.iter().find_map(|(id, line)| match line {
                _ if !fine(id) => Some(wrong("invalid_document_id")),
                _ if line.contains("unfit") => Some(wrong("invalid_document_geo_field")),
                _ => None,
            });
            if error.is_none() {
                documents
                    .iter()
                    .for_each(|(id, line)| self.put(id, 0, line));
            }
            error.unwrap_or(Value::Null)
        };
        self.tasks.push(error);
        let number = self.tasks.len() - 1;
        let body = json!({"taskUid": number, "indexUid": "products", "status": "enqueued"});
        Act::Say(202, body.to_string())
    }

    fn import(&mut self, body: &str) -> Act {
        if let Some(wrong) = self.typesense_trouble() {
            return wrong;
        }
        let line = |(id, line): &(String, &str)| {
            if line.contains("unfit") {
                let error = "Field `content` must be a string.";
                return json!({"success": false, "code": 400, "error": error, "document": line});
            }
            self.put(id, 0, line);
            json!({"success": true, "id": id})
        };
        let lines: Vec<Value> = documents(body).iter().map(line).collect();
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        Act::Say(200, lines.join("\n"))
    }

    fn delete_by(&mut self, query: &str) -> Act {
        if let Some(wrong) = self.typesense_trouble() {
            return wrong;
        }
        let ids = query
            .strip_prefix("filter_by=id:%5B")
            .and_then(|rest| rest.strip_suffix("%5D"))
            .expect("a list of ids");
        let gone = ids
            .split(',')
            .filter(|id| self.documents.remove(*id).is_some());
        Act::Say(200, json!({"num_deleted": gone.count()}).to_string())
    }

    fn typesense_trouble(&self) -> Option<Act> {
        let say = |status, message| Some(Act::Say(status, json!({"message": message}).to_string()));
        match self.mood {
            _ if !self.there => say(404, "Not Found"),
            Mood::Full => say(
                422,
                "Rejecting write: running out of resource type: OUT_OF_DISK",
            ),
            Mood::Well | Mood::NoField | Mood::Silent => None,
        }
    }

    fn batch(&mut self, body: &str) -> Act {
        if self.mood == Mood::Full {
            let body = json!({"message": "You have exceeded your Record quota.", "status": 403});
            return Act::Say(403, body.to_string());
        }
        let body: Value = serde_json::from_str(body).expect("a JSON body");
        let requests = body["requests"].as_array().expect("a list of requests");
        let unfit = |request: &Value| request.to_string().contains("unfit");
        if let Some(position) = requests.iter().position(unfit) {
            let id = requests[position]["body"]["objectID"].clone();
            let message = format!(
                "Record at the position {position} objectID={id} is too big size=11072/10000 bytes."
            );
            let body =
                json!({"message": message, "position": position, "objectID": id, "status": 400});
            return Act::Say(400, body.to_string());
        }
        let mut ids = Vec::new();
        for request in requests {
            let id = request["body"]["objectID"].as_str().expect("an id");
            match request["action"].as_str() {
                Some("updateObject") => self.put(id, 0, &request["body"].to_string()),
                Some("deleteObject") => drop(self.documents.remove(id)),
                other => panic!("an action that is not expected: {other:?}"),
            }
            ids.push(id);
        }
        Act::Say(200, json!({"taskID": 1, "objectIDs": ids}).to_string())
    }
}

/// The lines of a body with the ids of their documents.
fn documents(body: &str) -> Vec<(String, &str)> {
    let document = |line| {
        let document: Value = serde_json::from_str(line).expect("a JSON document");
        (document["id"].as_str().expect("an id").to_owned(), line)
    };
    body.lines().map(document).collect()
}

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}
