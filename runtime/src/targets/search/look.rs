//! Looks at an index: whether it is there before a write, and for `weir check --connect` whether it will
//! take the documents that come.
//!
//! A write creates an index that is missing, with a mapping that the engine guesses. So Weir looks before
//! each write that could do that, and writes to an alias only as such.

use std::time::SystemTime;

use serde_json::Value;

use super::document::META;
use super::{Dialect, Engine, Outcome, Reply};
use crate::sync::lock;
use crate::targets::http::{self, Method};

/// `index.mapping.total_fields.limit` of an index that does not set it.
const FIELDS_MAX: u64 = 1_000;

/// What a look at the index found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// Whether the name is that of an alias.
    pub(super) alias: bool,
}

impl Engine {
    /// Whether a write would create this index if it was dropped meanwhile.
    pub(super) fn creates(&self, index: Index) -> bool {
        match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => !index.alias,
            Dialect::Meilisearch => true,
            // Algolia has no index before its first record, and guesses nothing about it.
            Dialect::Typesense | Dialect::Algolia => false,
        }
    }

    /// Looks whether the index is there.
    ///
    /// # Errors
    /// [`Outcome::Trip`] with the remedy if it is not, or the outcome of the request.
    pub(super) async fn look(&self, now: SystemTime) -> Result<Index, Outcome> {
        let index = &self.options.index;
        let path = match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => {
                format!("/{index}?filter_path=*.aliases,*.settings.index.uuid")
            }
            Dialect::Meilisearch => format!("/indexes/{index}"),
            Dialect::Typesense => format!("/collections/{index}"),
            Dialect::Algolia => return Ok(Index { alias: false }),
        };
        let reply = self.ask(Method::GET, &path, None, now).await?;
        let trip = |reason| Err(Outcome::Trip { reason });
        match reply.status {
            404 => {
                return trip(format!(
                    "there is no index {index:?}; create it first, with the mapping or the settings that it needs"
                ));
            }
            401 | 403 => return trip(self.unauthorized(&reply)),
            _ if reply.is_success() => {}
            _ => {
                let outcomes = reply.by_status(1);
                return Err(match outcomes.into_iter().next() {
                    Some(Outcome::Refused { reason, .. }) => Outcome::Trip { reason },
                    Some(outcome) => outcome,
                    None => reply.trip(),
                });
            }
        }
        self.recognise(&reply)?;
        match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => {
                let names = reply.body.as_ref().and_then(Value::as_object);
                let names = names.map(|names| names.keys().collect::<Vec<_>>());
                let names = names.unwrap_or_default();
                if names.iter().any(|name| name.starts_with(".ds-")) {
                    return trip(format!(
                        "{index:?} is a data stream, which takes neither changes nor deletions; use an index"
                    ));
                }
                // An engine may leave out an index without aliases.
                Ok(Index {
                    alias: !names.is_empty() && !names.contains(&index),
                })
            }
            Dialect::Meilisearch => match reply.str("/primaryKey") {
                "" | "id" => Ok(Index { alias: false }),
                other => trip(format!(
                    "the primary key of the index {index:?} is {other:?}, and Weir writes \"id\"; create the index with primaryKey = \"id\""
                )),
            },
            Dialect::Typesense | Dialect::Algolia => Ok(Index { alias: false }),
        }
    }

    /// Compares the index with the one of the look before. One that was dropped and made again, restored, or
    /// put behind the alias holds something else than was acknowledged.
    fn recognise(&self, reply: &Reply) -> Result<(), Outcome> {
        let body = reply.body.as_ref();
        let found = match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => {
                let indexes = body.and_then(Value::as_object).into_iter().flatten();
                let mut ids: Vec<&str> = indexes
                    .filter_map(|(_, index)| index.pointer("/settings/index/uuid")?.as_str())
                    .collect();
                ids.sort_unstable();
                ids.join(",")
            }
            Dialect::Meilisearch => reply.str("/createdAt").to_owned(),
            Dialect::Typesense => body
                .and_then(|body| body.get("created_at"))
                .map(Value::to_string)
                .unwrap_or_default(),
            Dialect::Algolia => String::new(),
        };
        // A key may not be allowed to see it.
        if found.is_empty() {
            return Ok(());
        }
        let mut mark = lock(&self.mark);
        match &*mark {
            Some(before) if *before != found.as_bytes() => Err(Outcome::Forgot {
                reason: format!(
                    "the index {:?} is another one than before: it was made again, restored, or exchanged behind its alias",
                    self.options.index
                ),
            }),
            _ => {
                *mark = Some(found.into_bytes());
                Ok(())
            }
        }
    }

    /// Looks at an index that is there, for what will probably go wrong later. Returns a warning for each.
    ///
    /// # Errors
    /// What goes wrong already, as a phrase.
    pub(super) async fn inspect(&self, now: SystemTime) -> Result<Vec<String>, String> {
        match self.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => {
                let mapping = self.get("_mapping", now).await?;
                let limit = "index.mapping.total_fields.limit";
                let settings = self
                    .get(&format!("_settings/{limit}?flat_settings=true"), now)
                    .await?;
                Ok(self.judge_mapping(&mapping, &settings))
            }
            // A key for writing alone may not read the settings, but is told so in other words.
            Dialect::Algolia => {
                let path = format!("/1/indexes/{}/settings", self.options.index);
                let asked = self.ask(Method::GET, &path, None, now).await;
                let reply = asked.map_err(http::reason)?;
                match reply.str("/message") {
                    said if said.starts_with("Invalid Application-ID") => {
                        Err(self.unauthorized(&reply))
                    }
                    _ => Ok(Vec::new()),
                }
            }
            // The look has seen all that there is to see.
            Dialect::Meilisearch | Dialect::Typesense => Ok(Vec::new()),
        }
    }

    /// What Elasticsearch says about the index. `Null` if the key may not read it, which it need not.
    async fn get(&self, what: &str, now: SystemTime) -> Result<Value, String> {
        let path = format!("/{}/{what}", self.options.index);
        let reply = self.ask(Method::GET, &path, None, now).await;
        let reply = reply.map_err(http::reason)?;
        Ok(reply
            .body
            .filter(|_| (200..300).contains(&reply.status))
            .unwrap_or_default())
    }

    /// The warnings about the mappings and the settings of the index, or of those behind an alias.
    fn judge_mapping(&self, mapping: &Value, settings: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, index) in mapping.as_object().into_iter().flatten() {
            let mapping = &index["mappings"];
            let dynamic = match &mapping["dynamic"] {
                Value::String(dynamic) => dynamic == "true",
                Value::Bool(dynamic) => *dynamic,
                _ => true,
            };
            if dynamic {
                warnings.push(format!(
                    "the index {name:?} guesses the type of each field that it does not know (\"dynamic\" is true), and the first document decides; write the types of all fields into its mapping, and \"dynamic\": \"strict\" or false"
                ));
            }
            let unknown = |own: &&str| mapping["properties"][*own].is_null();
            let unknown: Vec<&str> = META.into_iter().filter(unknown).collect();
            if self.options.meta && mapping["dynamic"] == "strict" && !unknown.is_empty() {
                warnings.push(format!(
                    "the index {name:?} takes no document: its mapping is strict and lacks {}, which Weir writes; add them, weir_sequence as \"long\" and the others as \"keyword\", or set meta = false",
                    unknown.join(", ")
                ));
            }
            let set = &settings[name]["settings"]["index.mapping.total_fields.limit"];
            let set = set.as_str().and_then(|text| text.parse().ok());
            let (fields, most) = (fields(mapping), set.unwrap_or(FIELDS_MAX));
            if fields >= most / 10 * 9 {
                warnings.push(format!(
                    "the index {name:?} has {fields} of at most {most} fields (index.mapping.total_fields.limit); beyond that it takes no document with a new one, and the target trips: send fewer fields, by a renderer, or \"dynamic\": false, or raise the limit"
                ));
            }
        }
        warnings
    }

    fn unauthorized(&self, reply: &Reply) -> String {
        format!(
            "the engine does not let Weir use the index {:?}: {}; check auth or headers of the target, and what the key may do there",
            self.options.index,
            reply.described()
        )
    }
}

/// The number of fields of a mapping, as the engine counts them: objects and the fields of fields too.
fn fields(mapping: &Value) -> u64 {
    let members = ["properties", "fields", "runtime"].map(|name| mapping[name].as_object());
    let members = members.into_iter().flatten().flat_map(|it| it.values());
    members.map(|member| 1 + fields(member)).sum()
}
