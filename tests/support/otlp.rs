//! A collector of traces, made from the specification of OTLP over HTTP with JSON: it takes what the
//! specification allows, answers 400 to anything else, and has the specification's forms of failure.

use serde_json::{Value, json};

use super::receiver::Delivery;
use super::{Act, Receiver, eventually};

/// A collector on a port of its own.
pub struct Collector {
    receiver: Receiver,
}

impl Collector {
    pub fn start() -> Collector {
        let collector = Collector {
            receiver: Receiver::start(),
        };
        collector.does(|_| None);
        collector
    }

    /// Its address, without a path.
    pub fn endpoint(&self) -> String {
        self.receiver.url().replace("/weir", "")
    }

    /// Does what the script says from now on; where it says nothing, what the specification does.
    pub fn does(&self, script: impl Fn(&Delivery) -> Option<Act> + Send + Sync + 'static) {
        self.receiver.does(move |request| match wrong(request) {
            Some(wrong) => Act::Say(400, json!({"code": 3, "message": wrong}).to_string()),
            None => script(request).unwrap_or_else(|| Act::Say(200, "{}".into())),
        });
    }

    /// All requests, taken or not.
    pub fn requests(&self) -> Vec<Delivery> {
        let requests = self.receiver.deliveries();
        for request in &requests {
            assert_eq!(wrong(request), None, "it is sent nothing that is wrong");
        }
        requests
    }

    /// The spans that it has taken, in the order in which they came.
    pub fn spans(&self) -> Vec<Span> {
        let taken = self.requests().into_iter().filter(|it| it.acknowledged);
        taken
            .flat_map(|request| spans_of(&request.json()))
            .collect()
    }

    /// Waits until it has so many spans with names that begin with this, and returns these.
    #[track_caller]
    pub fn gets(&self, name: &str, count: usize) -> Vec<Span> {
        eventually(&format!("{count} spans of {name:?} are exported"), || {
            let spans = self.spans().into_iter();
            let found: Vec<Span> = spans.filter(|span| span.name().starts_with(name)).collect();
            (found.len() >= count).then_some(found)
        })
    }
}

/// The spans of a request.
pub fn spans_of(body: &Value) -> Vec<Span> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let resources = list(&body["resourceSpans"]).into_iter();
    let scopes = resources.flat_map(move |resource| list(&resource["scopeSpans"]));
    scopes
        .flat_map(move |scope| list(&scope["spans"]))
        .map(Span)
        .collect()
}

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Span(pub Value);

impl Span {
    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.text("name")
    }

    pub fn trace(&self) -> &str {
        self.text("traceId")
    }

    pub fn id(&self) -> &str {
        self.text("spanId")
    }

    /// Empty if it is the first of its trace.
    pub fn parent(&self) -> &str {
        self.text("parentSpanId")
    }

    /// The value of an attribute, as text; empty without one.
    pub fn attribute(&self, key: &str) -> &str {
        let mut attributes = self.0["attributes"].as_array().into_iter().flatten();
        let value = attributes.find(|attribute| attribute["key"] == key);
        let value = value.map(|attribute| &attribute["value"]);
        let text = value.and_then(|it| it["stringValue"].as_str().or(it["intValue"].as_str()));
        text.unwrap_or_default()
    }

    /// The traces and spans that it has links to.
    pub fn links(&self) -> Vec<(String, String)> {
        let links = self.0["links"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        links
            .map(|link| (text(&link["traceId"]), text(&link["spanId"])))
            .collect()
    }

    /// As a link to it, or as its `traceparent`, has it.
    pub fn ids(&self) -> (String, String) {
        (self.trace().to_owned(), self.id().to_owned())
    }
}

/// What the specification forbids about a request; `None` if nothing.
fn wrong(request: &Delivery) -> Option<String> {
    if request.method != "POST" || request.path.split('?').next() != Some("/v1/traces") {
        return Some(format!("{} {}", request.method, request.path));
    }
    if request.header("content-type") != Some("application/json") {
        return Some(format!("content-type {:?}", request.header("content-type")));
    }
    if request.header("traceparent").is_some() {
        return Some("the request is traced itself".to_owned());
    }
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return Some("no JSON".to_owned());
    };
    let resource = &body["resourceSpans"][0]["resource"]["attributes"];
    let mut attributes = resource.as_array().into_iter().flatten();
    if !attributes.any(|it| it["key"] == "service.name") {
        return Some("the resource has no service.name".to_owned());
    }
    let spans = spans_of(&body);
    if spans.is_empty() {
        return Some("no spans".to_owned());
    }
    spans.iter().find_map(wrong_span)
}

fn wrong_span(span: &Span) -> Option<String> {
    let id = |field: &str, digits: usize| {
        let text = span.text(field);
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let right =
            text.len() == digits && text.bytes().all(hex) && text.bytes().any(|it| it != b'0');
        (!right).then(|| format!("{field} is {text:?}"))
    };
    let time = |field: &str| {
        span.text(field)
            .parse::<u64>()
            .ok()
            .filter(|time| *time > 0)
    };
    let ids = id("traceId", 32).or_else(|| id("spanId", 16));
    if let Some(wrong) = ids {
        return Some(wrong);
    }
    if span.0.get("parentSpanId").is_some()
        && let Some(wrong) = id("parentSpanId", 16)
    {
        return Some(wrong);
    }
    let known = [
        "traceId",
        "spanId",
        "parentSpanId",
        "traceState",
        "flags",
        "name",
        "kind",
        "startTimeUnixNano",
        "endTimeUnixNano",
        "attributes",
        "droppedAttributesCount",
        "events",
        "droppedEventsCount",
        "links",
        "droppedLinksCount",
        "status",
    ];
    let mut fields = span.0.as_object().into_iter().flat_map(|span| span.keys());
    if let Some(unknown) = fields.find(|field| !known.contains(&field.as_str())) {
        return Some(format!("a span has no field {unknown}"));
    }
    let (start, end) = (time("startTimeUnixNano"), time("endTimeUnixNano"));
    if start.is_none() || end < start {
        return Some(format!("the times are {start:?} and {end:?}"));
    }
    if span.name().is_empty() || !matches!(span.0["kind"].as_u64(), Some(1..=5)) {
        return Some(format!("name {:?}, kind {}", span.name(), span.0["kind"]));
    }
    if !matches!(span.0["status"]["code"].as_u64(), Some(0..=2)) {
        return Some(format!("status {}", span.0["status"]));
    }
    let mut keys: Vec<&str> = Vec::new();
    for attribute in span.0["attributes"].as_array().into_iter().flatten() {
        let key = attribute["key"].as_str().unwrap_or_default();
        let value = attribute["value"].as_object();
        let typed = value.is_some_and(|value| {
            value.len() == 1
                && value.iter().all(|(kind, value)| match kind.as_str() {
                    "stringValue" => value.is_string(),
                    // 64 bits are text in JSON.
                    "intValue" => value.as_str().is_some_and(|it| it.parse::<i64>().is_ok()),
                    _ => false,
                })
        });
        if key.is_empty() || !typed || keys.contains(&key) {
            return Some(format!("attribute {attribute}"));
        }
        keys.push(key);
    }
    None
}
