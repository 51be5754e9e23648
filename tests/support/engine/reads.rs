//! What an engine says about the documents that it holds: by their ids, and by pages.

use serde_json::{Value, json};

use super::{Dialect, Index};
use crate::support::Act;

/// The documents of a page: few, so that tests need several.
const PAGE: usize = 3;
/// The id of the only scroll.
const SCROLL_ID: &str = "c2Nyb2xs==";

impl Index {
    /// The answer to a request for documents; `None` if it is another request.
    pub(super) fn read(&mut self, path: &str, body: &str) -> Option<Act> {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let answer = match (self.dialect, path) {
            (Dialect::Elasticsearch | Dialect::OpenSearch, "/products/_mget") => {
                let docs: Vec<Value> = ids(&body["ids"])
                    .map(|id| match self.documents.get(id) {
                        Some((version, source)) => {
                            json!({"_index": "products", "_id": id, "_version": version, "found": true, "_source": source})
                        }
                        None => json!({"_index": "products", "_id": id, "found": false}),
                    })
                    .collect();
                json!({ "docs": docs })
            }
            (Dialect::Elasticsearch | Dialect::OpenSearch, "/products/_search") => {
                self.scrolled = 0;
                self.scroll()
            }
            (Dialect::Elasticsearch | Dialect::OpenSearch, "/_search/scroll") => {
                assert_eq!(body["scroll_id"], SCROLL_ID);
                self.scroll()
            }
            (Dialect::Meilisearch, "/indexes/products/documents/fetch") => {
                let results: Vec<Value> = match body["ids"].is_array() {
                    true => ids(&body["ids"])
                        .filter_map(|id| Some(self.documents.get(id)?.1.clone()))
                        .collect(),
                    false => {
                        let from = body["offset"].as_u64().unwrap_or(0) as usize;
                        let all = self.documents.values().skip(from);
                        let limit = body["limit"].as_u64().unwrap_or(20) as usize;
                        all.take(limit)
                            .map(|(_, document)| document.clone())
                            .collect()
                    }
                };
                json!({ "results": results, "total": self.documents.len() })
            }
            (Dialect::Typesense, "/multi_search") => {
                let search = &body["searches"][0];
                let per_page = search["per_page"].as_u64().expect("a size") as usize;
                let filter = search["filter_by"].as_str().map(|filter| {
                    let ids = filter
                        .strip_prefix("id:[")
                        .and_then(|it| it.strip_suffix(']'));
                    ids.expect("a filter by ids").split(',').collect::<Vec<_>>()
                });
                let page = search["page"].as_u64().unwrap_or(1) as usize - 1;
                let wanted = |id: &str| filter.as_ref().is_none_or(|ids| ids.contains(&id));
                let hits: Vec<Value> = (self.documents.iter())
                    .filter(|(id, _)| wanted(id))
                    .skip(page * per_page)
                    .take(per_page)
                    .map(|(_, (_, document))| json!({ "document": document }))
                    .collect();
                json!({ "results": [{ "hits": hits }] })
            }
            (Dialect::Algolia, "/1/indexes/*/objects") => {
                let requests = body["requests"].as_array().expect("requests");
                let object = |request: &Value| {
                    let id = request["objectID"].as_str().expect("an id");
                    let held = self.documents.get(id);
                    held.map_or(Value::Null, |(_, document)| document.clone())
                };
                json!({ "results": requests.iter().map(object).collect::<Vec<_>>() })
            }
            (Dialect::Algolia, "/1/indexes/products/browse") => {
                let from: usize = body["cursor"]
                    .as_str()
                    .map_or(0, |it| it.parse().expect("a cursor"));
                let documents = self.documents.values().skip(from).take(PAGE);
                let hits: Vec<_> = documents.map(|(_, document)| document.clone()).collect();
                let mut answer = json!({ "hits": hits });
                if from + PAGE < self.documents.len() {
                    answer["cursor"] = (from + PAGE).to_string().into();
                }
                answer
            }
            _ => return None,
        };
        Some(Act::Say(200, answer.to_string()))
    }

    /// The next page. The real engine, too, mostly keeps the id of a scroll from page to page.
    fn scroll(&mut self) -> Value {
        let hits: Vec<Value> = (self.documents.iter().skip(self.scrolled).take(PAGE))
            .map(|(id, (_, source))| {
                json!({"_id": id, "_source": { "weir_key": source["weir_key"] }})
            })
            .collect();
        self.scrolled += PAGE;
        json!({ "_scroll_id": SCROLL_ID, "hits": { "hits": hits } })
    }
}

fn ids(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .expect("ids")
        .iter()
        .filter_map(Value::as_str)
}
