//! Search engines in a configuration: reads their keys and shows them.

use serde_json::{Map, Value};

use super::super::Outside;
use super::{CONCURRENCY, Configured, http, keys};
use crate::config::cursor::{Cursor, Field};
use crate::targets::Kind;
use crate::targets::search::{BATCH, Dialect, Options, PREFIX_BYTES_MAX, is_prefix};

/// The host names of services that take signed requests only.
const SIGV4_ONLY: &str = ".aoss.amazonaws.com";

/// Reads the keys of a search engine; `None` after a complaint about one that it requires.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    let dialect = table
        .require(
            "dialect",
            "write whose requests the engine understands, such as dialect = \"opensearch\"",
        )
        .and_then(|field| field.one_of(&Dialect::ALL));
    let url = table
        .require("url", "write the URL of the engine, such as \"https://search.example:9200\"")
        .and_then(|field| {
            let url = http::address(&field)?;
            if url.is_keyed() || url.as_str().contains('?') {
                let help = "write the URL of the engine alone; index and ids are added to it";
                field.complain("this URL is that of one document", help.to_owned());
                return None;
            }
            if url.as_str().contains(SIGV4_ONLY) {
                let help = "use a domain with basic authentication, or a proxy that signs requests";
                field.complain(
                    "OpenSearch Serverless takes only requests signed with SigV4, which Weir does not write",
                    help.to_owned(),
                );
            }
            Some(url)
        });
    let index = table
        .require(
            "index",
            "write the name of the index, such as index = \"products\"",
        )
        .and_then(|field| index(&field, dialect));
    let prefix = table.take("prefix").and_then(|field| {
        let help = format!("write at most {PREFIX_BYTES_MAX} ASCII letters, digits and -");
        field.parsed("a prefix of ids", &help, |text| {
            is_prefix(text).then(|| text.to_owned())
        })
    });
    let meta = table.take("meta").and_then(|field| field.boolean());
    let usual = Options::timeout(dialect.unwrap_or(Dialect::Elasticsearch));
    let http = http::read(table, usual);
    Some(Kind::Search(Box::new(Options {
        dialect: dialect?,
        url: url?,
        index: index?,
        prefix: prefix.unwrap_or_default(),
        meta: meta.unwrap_or(true),
        http,
    })))
}

/// Reads the name of an index, as the dialect allows it. A column of a row often has upper-case letters.
fn index(field: &Field<'_>, dialect: Option<Dialect>) -> Option<String> {
    let name = field.string()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let (fine, help) = match dialect {
        Some(Dialect::Elasticsearch | Dialect::OpenSearch) | None => (
            name.bytes()
                .all(|byte| plain(byte) && !byte.is_ascii_uppercase() || byte == b'.')
                && !name.starts_with(['-', '_', '.']),
            "write lower-case letters, digits, -, _ and ., beginning with a letter or a digit",
        ),
        Some(_) => (
            name.bytes().all(plain),
            "write ASCII letters, digits, - and _",
        ),
    };
    if name.is_empty() || name.len() > 255 || !fine {
        field.complain(
            format!("{name:?} cannot be the name of an index"),
            help.to_owned(),
        );
        return None;
    }
    Some(name)
}

impl Configured for Options {
    fn shown(&self, outside: &Outside) -> Map<String, Value> {
        let mut shown = keys([
            ("kind", "search".into()),
            ("dialect", self.dialect.word().into()),
            ("url", http::shown_url(&self.url, outside).into()),
            ("index", self.index.clone().into()),
            ("prefix", self.prefix.clone().into()),
            ("meta", self.meta.into()),
        ]);
        http::shown(&self.http, outside, &mut shown);
        shown
    }

    fn batch(&self) -> (usize, usize) {
        BATCH
    }

    /// One worker applies what these two have accepted; more requests only wait in its queue.
    fn concurrency(&self) -> usize {
        match self.dialect {
            Dialect::Meilisearch | Dialect::Typesense => 2,
            Dialect::Elasticsearch | Dialect::OpenSearch | Dialect::Algolia => CONCURRENCY,
        }
    }

    fn maps_fields(&self) -> bool {
        matches!(self.dialect, Dialect::Elasticsearch | Dialect::OpenSearch)
    }

    fn exclusive(&self) -> Option<(String, &'static str)> {
        Some((
            self.place(),
            "they would overwrite each other's documents: give one of the targets a prefix, or an index of its own",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::inline;

    #[test]
    fn an_engine_with_one_worker_gets_two_requests_at_a_time_unless_configured() {
        for (dialect, more, expected) in [
            ("elasticsearch", "", 8),
            ("meilisearch", "", 2),
            ("typesense", "", 2),
            ("typesense", "concurrency = 5", 5),
        ] {
            let keys = format!(
                "kind = \"search\"\ndialect = \"{dialect}\"\nurl = \"http://127.0.0.1:1\"\nindex = \"products\"\n{more}"
            );
            let plan = inline(&keys, &[]).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert_eq!(plan.targets["a"].concurrency, expected, "{dialect} {more}");
        }
    }
}
