//! The section `telemetry`: where spans go, and how many.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Outside;
use super::notes::Notes;
use super::targets::http;
use crate::config::cursor::{Cursor, Field};
use crate::config::scalar::{self, share_text};
use crate::targets::http::{Address, Options};

/// The timeout of a request to a collector, unless configured.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The share of new traces that are recorded, unless configured.
const SAMPLE: f64 = 0.01;
/// `service.name`, unless configured.
const SERVICE: &str = "weir";

/// Where spans are exported, and how many.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// The address of a collector that speaks OTLP over HTTP, as written. If it has no path, that of traces is
    /// meant.
    pub endpoint: Address,
    /// The share of the traces that begin at Weir which are recorded. Traces of senders follow their flag.
    pub sample: f64,
    /// The name of this Weir in traces, `service.name`.
    pub service: String,
    /// How requests to the collector are made.
    pub http: Options,
}

pub(super) fn telemetry<'a>(root: &mut Cursor<'a>, notes: &mut Notes<'a>) -> Option<Telemetry> {
    let field = root.take("telemetry")?;
    notes.place(field.path(), field.place());
    field.table(read).flatten()
}

fn read(table: &mut Cursor<'_>) -> Option<Telemetry> {
    let endpoint = table
        .require("endpoint", "write endpoint = \"http://collector:4318\"")
        .and_then(|field| endpoint(&field));
    let sample = table
        .take("sample")
        .and_then(|field| field.parsed("a share", scalar::SHARE, scalar::share));
    let service = table.take("service").and_then(|field| field.string());
    let http = http::read(table, TIMEOUT);
    Some(Telemetry {
        endpoint: endpoint?,
        sample: sample.unwrap_or(SAMPLE),
        service: service.unwrap_or_else(|| SERVICE.to_owned()),
        http,
    })
}

fn endpoint(field: &Field<'_>) -> Option<Address> {
    let address = http::address(field)?;
    if address.is_keyed() {
        let help = "write one such as \"http://collector:4318\"";
        field.complain("{key} is in the address of the collector", help.to_owned());
        return None;
    }
    Some(address)
}

/// The section as a file would write it, with secrets hidden.
pub(super) fn shown(telemetry: &Telemetry, outside: &Outside) -> Value {
    let Telemetry {
        endpoint,
        sample,
        service,
        http: options,
    } = telemetry;
    let mut shown = Map::new();
    let endpoint = http::shown_url(endpoint, outside);
    shown.insert("endpoint".into(), endpoint.into());
    shown.insert("sample".into(), share_text(*sample).into());
    shown.insert("service".into(), service.as_str().into());
    http::shown(options, outside, &mut shown);
    Value::Object(shown)
}
