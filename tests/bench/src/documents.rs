//! Documents for channels without a renderer: a product is one facet of 670 bytes that contains a
//! rising number, and channels deliver it unchanged.

use serde_json::{Map, Value, json};

use crate::FullArgs;
use crate::events::FIRST_KEY;
use crate::post::{CONNECTIONS, Request, post};
use crate::recorder::Recorder;
use crate::stage::Stage;
use weir::inside::cli::Failure;

/// The source, and the owner of the facet.
pub(super) const SOURCE: &str = "pim";
/// The text before the number of a document.
pub(super) const MARK: &str = "\"number\":";
/// The channel of [`owing`].
pub(super) const OWING: &str = "owing";
/// Documents per request.
pub(super) const BATCH: usize = 500;
/// A document contains this five times.
const TEXT: &str = "Tischleuchte aus Esche und Messing, handgemacht, mit Schalter am Kabel, in drei Farben und zwei Groessen lieferbar; Typ E; ";

/// A change of a product, one line of about 730 bytes; `number` is its version too.
pub(super) fn line(body: &mut Vec<u8>, product: usize, number: u32) {
    let key = FIRST_KEY + product as u64;
    let head = format!(
        r#"{{"type":"product","key":"{key}","facet":"content","version":{number},"value":{{"number":{number},"sku":"{key}","text":""#
    );
    body.extend_from_slice(head.as_bytes());
    (0..5).for_each(|_| body.extend_from_slice(TEXT.as_bytes()));
    body.extend_from_slice(b"\"}}\n");
}

/// Fills in the request of a turn: the next [`BATCH`] of so many products, each with this number. Returns
/// false after the last one.
pub(super) fn fill(request: &mut Request, products: usize, turn: usize, number: u32) -> bool {
    let first = products.min(turn * BATCH);
    let last = products.min(first + BATCH);
    (request.source, request.events) = (SOURCE, (last - first) as u64);
    (first..last).for_each(|product| line(&mut request.body, product, number));
    first < last
}

/// A Weir with one channel, [`OWING`], that is paused and owes a target this number of products.
///
/// # Errors
/// It does not start, or does not accept the products.
pub(super) fn owing(args: &FullArgs, target: &Value, products: usize) -> Result<Stage, Failure> {
    let channel = json!({ "entity": "product", "facets": ["content"], "target": target });
    let configuration = with_channels([(OWING.to_owned(), channel)].into_iter().collect());
    let stage = Stage::start(args.folder.as_deref(), &configuration)?;
    stage.api().operate("pause")?;
    let posted = post(stage.address(), CONNECTIONS, move |turn, _, request| {
        fill(request, products, turn, 1)
    });
    posted.map_err(Failure::Failed)?;
    Ok(stage)
}

/// The configuration of a number of channels without a renderer, each with its own target. They
/// subscribe to `facets` and deliver in batches of `batch`.
pub(super) fn configuration(
    recorder: &Recorder,
    channels: usize,
    facets: &str,
    batch: usize,
) -> Value {
    let channel = |number: usize| {
        let target =
            json!({ "kind": "webhook", "url": format!("http://{}/{number}", recorder.address) });
        (
            format!("site-{number:03}"),
            json!({ "entity": "product", "facets": [facets], "target": target, "batch": batch }),
        )
    };
    with_channels((0..channels).map(channel).collect())
}

fn with_channels(channels: Map<String, Value>) -> Value {
    json!({
        "config_version": 1,
        "server": { "listen": "127.0.0.1:0", "reload": "signal" },
        "store": { "path": "data" },
        "entities": { "product": { "facets": { "content": { "owner": SOURCE }, "other": { "owner": SOURCE } } } },
        "sources": { SOURCE: {} },
        "channels": channels,
    })
}
