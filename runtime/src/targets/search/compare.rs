//! What an index holds, for drift checks: documents by their ids, and all ids by pages.

use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::document::{self, META};
use super::{Dialect, Engine, Reply, id};
use crate::model::Sequence;
use crate::targets::difference::differences;
use crate::targets::http::{self, Method};
use crate::targets::{Held, Item, Page};

/// The bytes of the documents that are asked for in one request, so that the answer stays below what is read
/// of one: some engines return a document with more in it than was sent.
const ASKED_BYTES_MAX: usize = 256 * 1024;
/// The documents of one request, and of a page of ids.
const ASKED_MAX: usize = 500;
const PAGE: u64 = 1_000;
/// The most hits that Typesense returns in a page.
const TYPESENSE_PAGE: usize = 250;
/// How long Elasticsearch keeps a list of ids between two pages.
const SCROLL: &str = "2m";

impl Engine {
    pub(super) async fn compare(&self, items: &[Item]) -> Result<Vec<Held>, String> {
        let mut held = Vec::with_capacity(items.len());
        let mut left = items;
        while !left.is_empty() {
            let most = match self.options.dialect {
                Dialect::Typesense => TYPESENSE_PAGE,
                _ => ASKED_MAX,
            };
            let mut bytes = 0;
            let fits = |item: &&Item| {
                bytes += item.bytes_in_batch();
                bytes <= ASKED_BYTES_MAX
            };
            let count = left.iter().take(most).take_while(fits).count().max(1);
            let (asked, rest) = left.split_at(count);
            held.extend(self.compare_some(asked).await?);
            left = rest;
        }
        Ok(held)
    }

    async fn compare_some(&self, items: &[Item]) -> Result<Vec<Held>, String> {
        let ids = self.ids(items);
        let reply = self.fetch(&ids).await?;
        if let Some(why) = &reply.cut {
            // One document may be larger than what is read of an answer.
            return match items {
                [_] => Ok(vec![Held::Unknown(why.clone())]),
                _ => {
                    let (first, second) = items.split_at(items.len() / 2);
                    let mut held = Box::pin(self.compare_some(first)).await?;
                    held.extend(Box::pin(self.compare_some(second)).await?);
                    Ok(held)
                }
            };
        }
        if !reply.is_success() {
            return Err(reply.described());
        }
        let documents = self.documents(&reply)?;
        let each = items.iter().zip(&ids);
        Ok(each
            .map(|(item, id)| self.held(item, id, documents.get(id.as_str()).copied()))
            .collect())
    }

    /// Asks for documents by their ids.
    async fn fetch(&self, ids: &[String]) -> Result<Reply, String> {
        let index = &self.options.index;
        let (path, body) = match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => {
                (format!("/{index}/_mget"), json!({ "ids": ids }))
            }
            Dialect::Meilisearch => (
                format!("/indexes/{index}/documents/fetch"),
                json!({ "ids": ids, "limit": ids.len() }),
            ),
            Dialect::Typesense => (
                "/multi_search".to_owned(),
                json!({ "searches": [{
                    "collection": index,
                    "q": "*",
                    "filter_by": format!("id:[{}]", ids.join(",")),
                    "per_page": TYPESENSE_PAGE,
                }] }),
            ),
            Dialect::Algolia => {
                let one = |id: &String| json!({ "indexName": index, "objectID": id });
                let requests: Vec<Value> = ids.iter().map(one).collect();
                (
                    "/1/indexes/*/objects".to_owned(),
                    json!({ "requests": requests }),
                )
            }
        };
        self.post(&path, &body).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Reply, String> {
        let body = Some(("application/json", body.to_string().into_bytes()));
        let now = SystemTime::now();
        let reply = self.ask(Method::POST, path, body, now).await;
        reply.map_err(http::reason)
    }

    /// The documents of an answer, by their ids.
    fn documents<'a>(
        &self,
        reply: &'a Reply,
    ) -> Result<HashMap<&'a str, &'a Map<String, Value>>, String> {
        let body = reply.body.as_ref().ok_or("the answer is not JSON")?;
        let (list, id, at) = match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => ("/docs", "_id", Some("_source")),
            Dialect::Meilisearch => ("/results", "id", None),
            Dialect::Typesense => ("/results/0/hits", "id", Some("document")),
            Dialect::Algolia => ("/results", "objectID", None),
        };
        if let Some(error) = body.pointer("/results/0/error").and_then(Value::as_str) {
            return Err(error.to_owned());
        }
        let list = body.pointer(list).and_then(Value::as_array);
        let list = list
            .ok_or_else(|| format!("the answer has no list of documents: {}", reply.described()))?;
        let document = |entry: &'a Value| {
            if let Some(error) = entry.pointer("/error/reason").and_then(Value::as_str) {
                return Err(error.to_owned());
            }
            let document = match at {
                Some(at) => entry.get(at),
                None => Some(entry),
            };
            let document = document.and_then(Value::as_object);
            if document.is_none() && entry.get("found").and_then(Value::as_bool) == Some(true) {
                return Err(
                    "the index does not keep its documents (_source), so they cannot be compared"
                        .to_owned(),
                );
            }
            let named = match self.options.dialect {
                Dialect::Elasticsearch | Dialect::OpenSearch => entry.get(id),
                _ => document.and_then(|document| document.get(id)),
            };
            Ok(named.and_then(Value::as_str).zip(document))
        };
        let found: Result<Vec<_>, String> = list.iter().map(document).collect();
        Ok(found?.into_iter().flatten().collect())
    }

    /// Compares a document with the one that would be written.
    fn held(&self, item: &Item, id: &str, document: Option<&Map<String, Value>>) -> Held {
        let document = match (document, &item.rendering) {
            (None, None) => return Held::Same,
            (None, Some(_)) => return Held::Missing,
            (Some(_), None) => return Held::Extra,
            (Some(document), Some(_)) => document,
        };
        let name = match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => None,
            Dialect::Algolia => Some(("objectID", id)),
            Dialect::Meilisearch | Dialect::Typesense => Some(("id", id)),
        };
        let mut written = Vec::new();
        if let Err(why) = document::write(item, name, self.options.meta, &mut written) {
            return Held::Unknown(why);
        }
        let [_, _, sequence] = META;
        let Ok(mut wanted) = serde_json::from_slice::<Map<String, Value>>(&written) else {
            return Held::Unknown(
                "the document that would be written is no JSON object".to_owned(),
            );
        };
        // A state that was suppressed has a newer sequence and the same document.
        wanted.remove(sequence);
        let places = differences(&Value::Object(wanted), &Value::Object(document.clone()));
        let older = document.get(sequence).and_then(Value::as_u64);
        match (places.is_empty(), older) {
            (true, _) => Held::Same,
            (false, Some(older)) if older < item.sequence.0 => Held::Older(Sequence(older)),
            (false, _) => Held::Different(places),
        }
    }

    /// A page of the keys of all documents that have the prefix of this target.
    pub(super) async fn keys(&self, after: Option<&str>) -> Result<Page, String> {
        let [_, key, _] = META;
        let index = &self.options.index;
        // A scroll may keep its id from page to page, and each page must have another end than the one
        // before: the number of the page is in front of it.
        let (number, scroll) = match after {
            Some(after) => after.split_once(' ').unwrap_or((after, "")),
            None => ("", ""),
        };
        let number = number.parse::<u64>().unwrap_or(0);
        let reply = match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => match after {
                None => {
                    let path = format!("/{index}/_search?scroll={SCROLL}");
                    let body = json!({ "size": PAGE, "sort": ["_doc"], "_source": [key] });
                    self.post(&path, &body).await?
                }
                Some(_) => {
                    let body = json!({ "scroll": SCROLL, "scroll_id": scroll });
                    self.post("/_search/scroll", &body).await?
                }
            },
            Dialect::Meilisearch => {
                let path = format!("/indexes/{index}/documents/fetch");
                let body = json!({ "offset": number, "limit": PAGE, "fields": ["id", key] });
                self.post(&path, &body).await?
            }
            Dialect::Typesense => {
                let body = json!({ "searches": [{
                    "collection": index,
                    "q": "*",
                    "include_fields": format!("id,{key}"),
                    "per_page": TYPESENSE_PAGE,
                    "page": number + 1,
                }] });
                self.post("/multi_search", &body).await?
            }
            Dialect::Algolia => {
                let path = format!("/1/indexes/{index}/browse");
                let mut body = json!({ "hitsPerPage": PAGE, "attributesToRetrieve": [key] });
                if let Some(cursor) = after {
                    body["cursor"] = cursor.into();
                }
                self.post(&path, &body).await?
            }
        };
        if let Some(why) = &reply.cut {
            return Err(why.clone());
        }
        if !reply.is_success() {
            return Err(reply.described());
        }
        self.page(&reply, number)
    }

    fn page(&self, reply: &Reply, number: u64) -> Result<Page, String> {
        let body = reply.body.as_ref().ok_or("the answer is not JSON")?;
        let (list, id, at) = match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => ("/hits/hits", "_id", "/_source"),
            Dialect::Meilisearch => ("/results", "id", ""),
            Dialect::Typesense => ("/results/0/hits", "id", "/document"),
            Dialect::Algolia => ("/hits", "objectID", ""),
        };
        let entries = body.pointer(list).and_then(Value::as_array);
        let entries =
            entries.ok_or_else(|| format!("the answer has no list: {}", reply.described()))?;
        let [_, key, _] = META;
        let key_of = |entry: &Value| {
            let document = entry.pointer(at)?;
            let named = match self.options.dialect {
                Dialect::Elasticsearch | Dialect::OpenSearch => entry.get(id),
                _ => document.get(id),
            };
            let named = named.and_then(Value::as_str)?;
            if !id::has_prefix(&self.options.prefix, named) {
                return None;
            }
            let known = document.get(key).and_then(Value::as_str);
            let key = known
                .map(str::to_owned)
                .or_else(|| id::key_of(&self.options.prefix, named));
            Some(key.unwrap_or_else(|| named.to_owned()))
        };
        let next = match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => {
                let scroll = body.pointer("/_scroll_id").and_then(Value::as_str);
                let scroll = scroll.filter(|_| !entries.is_empty());
                scroll.map(|scroll| format!("{} {scroll}", number + 1))
            }
            Dialect::Meilisearch => {
                let more = entries.len() as u64 == PAGE;
                more.then(|| (number + PAGE).to_string())
            }
            Dialect::Typesense => {
                let more = entries.len() == TYPESENSE_PAGE;
                more.then(|| (number + 1).to_string())
            }
            Dialect::Algolia => {
                let cursor = body.pointer("/cursor").and_then(Value::as_str);
                cursor.map(str::to_owned)
            }
        };
        Ok(Page {
            keys: entries.iter().filter_map(key_of).collect(),
            next,
        })
    }
}
