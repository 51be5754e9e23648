//! The entry point of `tests/fuzz` to what the answers of engines mean. Compiled only with the feature
//! `fuzz`, and for tests.

use std::time::SystemTime;

use super::*;
use crate::model::Sequence;
use crate::model::Trace;
use crate::targets::Form;

/// What an answer to a request with these documents means: for each way in which the dialect reads one.
pub(in crate::targets) fn judged(
    dialect: Dialect,
    items: &[Item],
    status: u16,
    body: &[u8],
) -> Vec<Vec<Outcome>> {
    let search = Search::open(&Options {
        dialect,
        url: Address::parse("http://engine").expect("a URL"),
        index: "products".into(),
        prefix: String::new(),
        meta: false,
        http: http::Options::default(),
    });
    let engine = search.expect("it opens").engine;
    let reply = |cut: Option<&str>| Reply {
        status,
        cut: cut.map(str::to_owned),
        body: serde_json::from_slice(body).ok(),
        text: body.to_vec(),
        wait: None,
    };
    let attempt = Attempt {
        items,
        form: Form::Batch,
        trace: Trace {
            trace: 1,
            span: 1,
            sampled: true,
        },
        now: SystemTime::UNIX_EPOCH,
        head: Sequence(9),
        foreign: None,
    };
    let whole = |outcome: Outcome| vec![outcome; items.len()];
    let read = |reply: &Reply| match dialect {
        Dialect::Elasticsearch | Dialect::OpenSearch => {
            let sent: Vec<usize> = (0..items.len()).collect();
            vec![elasticsearch::judged(&engine, &attempt, &sent, reply)]
        }
        Dialect::Meilisearch => vec![
            whole(meilisearch::refusal(reply, items.len())),
            whole(meilisearch::failure(&engine, reply, items.len())),
        ],
        Dialect::Typesense => vec![
            typesense::lines(&engine, reply, items.len()),
            whole(typesense::trouble(reply, items.len())),
        ],
        Dialect::Algolia => vec![algolia::refusal(reply, items.len())],
    };
    let cut = reply(Some("the response is longer than 1 MiB"));
    [read(&reply(None)), read(&cut)].concat()
}
