//! A request to a source, from its raw bytes to the commit.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use weir::inside::budget::Budget;
use weir::inside::ingest::split::{Dialect, Split};
use weir::inside::ingest::{
    Activity, Headers, Incoming, Options, Rejection, Source, form, naming, verify,
};
use weir::inside::model::{EntityType, FacetRule, Lane, Timestamp};
use weir::inside::store::memory::Memory;
use weir::inside::store::{Limits, Store};

const TYPES: [&str; 8] = [
    "application/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/x-ndjson",
    "application/xml",
    "text/csv; charset=cp850",
    "application/x-www-form-urlencoded",
    "",
];

/// No event is lost: each event of an accepted request is accepted, filtered, quarantined or
/// repeated, and each quarantined one is reported, up to the limit. A rejected request gets a
/// reason that is about the request.
///
/// The last byte of the input chooses how the body is sent and split, so that any file is a valid
/// body.
pub fn request(input: &[u8]) {
    let Some((how, body)) = input.split_last() else {
        return;
    };
    let mut headers = Headers::default();
    headers.push("content-type", TYPES[usize::from(how & 7)].as_bytes());
    if how & 0x80 != 0 {
        headers.push("content-encoding", b"gzip");
    }
    let lane = (how & 0x40 != 0).then_some(Lane::Bulk);
    let request = Incoming {
        headers,
        body: body.to_vec().into(),
        lane,
        receipt: false,
        now: Timestamp(1_795_000_000_000),
        memory: Budget::new(256 << 20).reservation("erp"),
    };
    let (source, runtime) = (source(usize::from(how >> 3 & 7)), runtime());
    match runtime.block_on(source.accept(request)) {
        Ok(answer) => {
            let events = answer.events;
            let reported = answer.problems.len() as u64;
            assert!(
                reported >= events.quarantined.min(100),
                "{events:?} and {reported} reported"
            );
            assert!(
                events.accepted > 0 || answer.changes.committed == 0,
                "{events:?} {:?}",
                answer.changes
            );
        }
        Err(
            Rejection::Malformed { .. }
            | Rejection::TooLarge { .. }
            | Rejection::UnsupportedMediaType { .. },
        ) => {}
        Err(other) => panic!("{other:?}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without a clock")
}

/// A source with an empty store, which splits the body in one of the ways.
fn source(split: usize) -> Source {
    thread_local! { static TYPES: RefCell<Option<Arc<BTreeMap<Arc<str>, EntityType>>>> = const { RefCell::new(None) }; }
    let split = match split {
        0 | 1 => Split::Whole,
        2 => Split::Lines,
        3 => Split::Csv(Dialect::default()),
        4 => Split::Json("/items".into()),
        5 => Split::Json(String::new()),
        6 => Split::Xml("IDOC".into()),
        _ => Split::Xml("a:item".into()),
    };
    let options = Options {
        name: "pim".into(),
        owner: "pim".into(),
        split,
        headers: Vec::new(),
        naming: naming::Naming::default(),
        verify: verify::Options::None,
        handshake: None,
        quiet: None,
        body_bytes_max: 1 << 20,
        encoding: None,
        form: form::Form::default(),
        unreadable: false,
    };
    let types =
        TYPES.with_borrow_mut(|types| types.get_or_insert_with(|| Arc::new(product())).clone());
    let store = Memory::default();
    store.limit(Limits {
        entities_max: Vec::new(),
        quarantine_max: u64::MAX,
        forget_ms: 1000,
    });
    Source::new(
        options,
        None,
        types,
        Arc::new(store),
        Arc::new(Activity::default()),
    )
}

fn product() -> BTreeMap<Arc<str>, EntityType> {
    let rule = |pattern: &str, owner: &str| FacetRule {
        pattern: pattern.into(),
        owner: owner.into(),
        lane: Lane::Normal,
    };
    let facets = vec![
        rule("content", "pim"),
        rule("price.*", "erp"),
        rule("stock.*", "pim"),
    ];
    let product = EntityType {
        name: "product".into(),
        facets,
        facet_bytes_max: 4096,
        entities_max: 1000,
    };
    BTreeMap::from([("product".into(), product)])
}
