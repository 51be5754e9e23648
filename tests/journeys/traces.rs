//! Traces, from outside: what a collector gets of an event and of its delivery, and what happens if it does
//! not take it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::otlp::{Collector, Span};
use crate::support::parts::python_with;
use crate::support::stage::CATALOG;
use crate::support::weir::command;
use crate::support::{Act, Stage, change, eventually};

/// The trace of a sender, and its span there.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn telemetry(collector: &Collector, sample: &str) -> String {
    let endpoint = collector.endpoint();
    format!("{CATALOG}[telemetry]\nendpoint = \"{endpoint}\"\nsample = \"{sample}\"\n")
}

/// A Weir that exports to this collector, whose channel has had its first sweep.
fn stage(collector: &Collector, sample: &str) -> Stage {
    let stage = Stage::with(&telemetry(collector, sample));
    stage.swept("shop");
    stage
}

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// Sends one change with this `traceparent` in the head of the request.
#[track_caller]
fn sends(stage: &Stage, key: &str, value: u32, traceparent: &str) {
    let body = change(key, "content", json!(value)).to_string();
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("traceparent", traceparent),
    ];
    let reply = stage.send("pim", &headers, body.as_bytes());
    assert_eq!(reply.status, 202, "{}", reply.text());
}

/// The number of spans that had this fate.
fn counted(stage: &Stage, fate: &str) -> u64 {
    let metrics = stage.weir().get("/metrics").text();
    let name = format!("weir_trace_spans_total{{result=\"{fate}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
    count.map_or(0, |count| count.parse().expect("a number"))
}

#[track_caller]
fn becomes_counted(stage: &Stage, fate: &str, least: u64) {
    eventually(&format!("{least} spans are {fate}"), || {
        (counted(stage, fate) >= least).then_some(())
    });
}

#[track_caller]
fn only(mut spans: Vec<Span>) -> Span {
    assert_eq!(spans.len(), 1, "{spans:#?}");
    spans.remove(0)
}

#[test]
fn the_trace_of_a_sender_goes_on_to_the_delivery_of_its_event() {
    let collector = Collector::start();
    let stage = stage(&collector, "0%");
    sends(&stage, "lamp", 1, &parent("01"));

    let receive = only(collector.gets("receive pim", 1));
    assert_eq!((receive.trace(), receive.parent()), (TRACE, SPAN));
    let process = only(collector.gets("process pim", 1));
    assert_eq!((process.trace(), process.parent()), (TRACE, receive.id()));
    let send = only(collector.gets("send shop", 1));
    assert_ne!(send.trace(), TRACE, "a delivery has a trace of its own");
    assert_eq!(send.parent(), "");
    assert_eq!(send.links(), [process.ids()]);

    let attribute = |span: &Span, key: &str| span.attribute(key).to_owned();
    for (span, operation, destination) in [
        (&receive, "receive", "pim"),
        (&process, "process", "pim"),
        (&send, "send", "shop"),
    ] {
        assert_eq!(attribute(span, "messaging.system"), "weir");
        assert_eq!(attribute(span, "messaging.operation.name"), operation);
        assert_eq!(attribute(span, "messaging.operation.type"), operation);
        assert_eq!(attribute(span, "messaging.destination.name"), destination);
    }
    assert_eq!(attribute(&process, "weir.result"), "accepted");
    assert_eq!(attribute(&process, "weir.entity.key"), "lamp");
    assert_eq!(attribute(&send, "weir.events.merged"), "1");

    // The target is told of the same span, and so is whoever looks at the entity.
    let delivery = &stage.shop.of("lamp")[0];
    let told = format!("00-{}-{}-01", send.trace(), send.id());
    assert_eq!(delivery.header("traceparent"), Some(told.as_str()));
    assert_eq!(
        delivery.header("webhook-id"),
        Some(send.attribute("messaging.message.id"))
    );
    let way = stage.entity("lamp")["way"].clone();
    let traces: Vec<&Value> = way
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["trace"])
        .collect();
    assert_eq!(traces[0], TRACE, "{way:#}");
    assert!(traces.iter().any(|it| **it == send.trace()), "{way:#}");
}

#[test]
fn a_sender_that_does_not_record_is_not_recorded_and_the_target_learns_it() {
    let collector = Collector::start();
    let stage = stage(&collector, "100%");
    // Everything that begins here is recorded, but not what a sender decided otherwise.
    sends(&stage, "lamp", 1, &parent("00"));
    sends(&stage, "desk", 1, "no trace at all");
    let receive = only(collector.gets("receive pim", 1));
    assert_eq!(receive.parent(), "", "the desk's request begins a trace");
    assert_ne!(receive.trace(), TRACE);
    let process = only(collector.gets("process pim", 1));
    assert_eq!(process.attribute("weir.entity.key"), "desk");
    collector.gets("send shop", 2);

    let stage = Stage::with(&telemetry(&collector, "0%"));
    stage.swept("shop");
    sends(&stage, "lamp", 2, &parent("00"));
    stage.settles("shop");
    let delivery = &stage.shop.of("lamp")[0];
    let told = delivery.header("traceparent").expect("there is always one");
    assert!(told.ends_with("-00"), "{told}");
}

#[test]
fn an_event_of_cloudevents_has_its_own_trace() {
    let collector = Collector::start();
    let stage = stage(&collector, "0%");
    let event = |key: &str, traceparent: &str| {
        json!({
            "specversion": "1.0", "id": format!("id-{key}"), "source": "/pim", "type": "changed",
            "datacontenttype": "application/json", "traceparent": traceparent,
            "data": change(key, "content", json!(1)),
        })
    };
    let other = "00-11111111111111111111111111111111-2222222222222222-01";
    let batch = json!([
        event("lamp", &parent("01")),
        event("desk", other),
        event("sofa", &parent("00"))
    ]);
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let reply = stage.send("pim", &headers, batch.to_string().as_bytes());
    assert_eq!(reply.status, 202, "{}", reply.text());

    let processes = collector.gets("process pim", 2);
    let of: Vec<_> = processes
        .iter()
        .map(|span| {
            (
                span.attribute("cloudevents.event_id"),
                span.trace(),
                span.parent(),
            )
        })
        .collect();
    let second = ("1".repeat(32), "2".repeat(16));
    assert_eq!(
        of,
        [
            ("id-lamp", TRACE, SPAN),
            ("id-desk", &*second.0, &*second.1)
        ]
    );
    // The request of a single event belongs to the trace of the event.
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "id-single"),
        ("ce-source", "/pim"),
        ("ce-type", "changed"),
        ("ce-traceparent", other),
    ];
    let body = change("lamp", "content", json!(2)).to_string();
    let reply = stage.send("pim", &headers, body.as_bytes());
    assert_eq!(reply.status, 202, "{}", reply.text());
    let receive = only(collector.gets("receive pim", 1));
    assert_eq!(
        (receive.trace(), receive.parent()),
        (&*second.0, &*second.1)
    );
    let single = collector.gets("process pim", 3).remove(2);
    assert_eq!(single.parent(), receive.id());
}

#[test]
fn a_delivery_names_the_first_and_the_last_event_that_it_contains_and_their_number() {
    let collector = Collector::start();
    let stage = stage(&collector, "0%");
    stage.operate("shop", "pause");
    for value in 1..=5 {
        let span = format!("00-{TRACE}-{value:016x}-01");
        sends(&stage, "lamp", value, &span);
    }
    stage.operate("shop", "resume");
    let send = only(collector.gets("send shop", 1));
    let processes = collector.gets("process pim", 5);
    assert_eq!(send.links(), [processes[0].ids(), processes[4].ids()]);
    assert_eq!(send.attribute("weir.events.merged"), "5");
    assert_eq!(send.0["droppedLinksCount"], 3);
    // What was delivered is not named again.
    sends(&stage, "lamp", 6, &parent("01"));
    let next = collector.gets("send shop", 2).remove(1);
    let process = collector.gets("process pim", 6).remove(5);
    assert_eq!(next.links(), [process.ids()]);
}

#[test]
fn a_span_says_why_it_failed_and_the_log_names_its_trace() {
    let collector = Collector::start();
    let mut stage = Stage::closed(&telemetry(&collector, "0%"));
    let traceparent = parent("01");
    stage.start_with_options(&["--log", "info,weir=debug", "--log-format", "json"]);
    stage.swept("shop");
    stage.shop.does(|_| Act::Say(400, "no such product".into()));
    sends(&stage, "lamp", 1, &parent("01"));
    let send = collector.gets("send shop", 1).remove(0);
    assert_eq!(send.attribute("error.type"), "refused");
    assert_eq!(send.0["status"]["code"], 2);
    let message = send.0["status"]["message"].as_str().expect("a message");
    assert!(message.contains("no such product"), "{message}");
    let line = |words: &str| -> Value {
        eventually(&format!("the log has {words:?}"), || {
            let log = stage.weir().log();
            let line = log.lines().find(|line| line.contains(words))?;
            serde_json::from_str::<Value>(line).ok()
        })
    };
    let refused = line("deliveries of this channel fail")["fields"].clone();
    assert_eq!(refused["trace"], send.trace(), "{refused:#}");
    assert_eq!(refused["span"], send.id(), "{refused:#}");

    // The price belongs to another owner, so the event is quarantined.
    let body = change("lamp", "price.de", json!(1)).to_string();
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("traceparent", traceparent.as_str()),
    ];
    let reply = stage.send("pim", &headers, body.as_bytes());
    assert_eq!(reply.json()["events"]["quarantined"], 1, "{}", reply.text());
    let process = collector.gets("process pim", 2).remove(1);
    assert_eq!(process.attribute("weir.result"), "quarantined");
    assert_ne!(process.attribute("error.type"), "");
    let quarantined = line("an event was quarantined")["fields"].clone();
    assert_eq!(quarantined["trace"], TRACE, "{quarantined:#}");
    assert_eq!(quarantined["span"], process.id(), "{quarantined:#}");

    stage.shop.does(|_| Act::Answer(401));
    sends(&stage, "desk", 1, &parent("01"));
    let send = collector.gets("send shop", 2).remove(1);
    let tripped = line("target tripped")["fields"].clone();
    assert_eq!(
        (&tripped["trace"], &tripped["span"]),
        (&json!(send.trace()), &json!(send.id())),
        "{tripped:#}"
    );

    // A request that cannot be read has a span too.
    let headers = [
        ("content-type", "application/cloudevents+json"),
        ("traceparent", traceparent.as_str()),
    ];
    let reply = stage.send("pim", &headers, b"{");
    assert_eq!(reply.status, 400, "{}", reply.text());
    let receive = collector.gets("receive pim", 4).remove(3);
    assert_ne!(receive.attribute("error.type"), "");
    assert_eq!(receive.parent(), SPAN);
}

#[test]
fn a_line_of_a_plugin_names_the_trace_of_its_event() {
    let config = "[entities.product]\nfacets.base = { owner = \"erp\" }\n\
                  [plugins.guest]\npath = \"guest.wasm\"\n[sources.erp]\nplugins = [\"guest\"]\n";
    let mut stage = Stage::closed(config);
    stage.place(
        "guest.wasm",
        &crate::support::guests::versioned::talkative_mapper(),
    );
    stage.start();
    // Without a collector too: the log of the sender has the same trace.
    let traceparent = parent("00");
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "good"),
        ("ce-source", "erp"),
        ("ce-type", "good"),
        ("traceparent", traceparent.as_str()),
    ];
    let reply = stage.send("erp", &headers, br#"{"of": "lamp"}"#);
    assert_eq!(reply.status, 202, "{}", reply.text());
    let log = stage.weir().log();
    let said = log.lines().find(|line| line.contains("weir::plugin"));
    let said = said.unwrap_or_else(|| panic!("it said nothing: {log}"));
    assert!(said.contains(&format!("trace=\"{TRACE}\"")), "{said}");
}

#[test]
fn a_request_that_is_not_taken_is_sent_again_only_where_the_specification_allows_it() {
    let collector = Collector::start();
    let stage = stage(&collector, "0%");
    for (value, answer, again) in [
        (1, Act::With(503, vec![("retry-after", "1".into())]), true),
        (2, Act::Answer(429), true),
        (3, Act::Hangup, true),
        (
            4,
            Act::Say(400, json!({"message": "bad span"}).to_string()),
            false,
        ),
        (5, Act::Answer(500), false),
        (
            6,
            Act::With(302, vec![("location", "/elsewhere".into())]),
            false,
        ),
    ] {
        let failed = counted(&stage, "failed");
        let requests = collector.requests().len();
        let first = std::sync::atomic::AtomicBool::new(true);
        let act = answer.clone();
        collector.does(move |_| {
            let is_first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
            is_first.then(|| act.clone())
        });
        let key = format!("lamp-{value}");
        sends(&stage, &key, 1, &parent("01"));
        let got = |spans: Vec<Span>| {
            let mut spans = spans.into_iter();
            spans.any(|span| span.attribute("weir.entity.key") == key)
        };
        stage.settles("shop");
        if again {
            eventually(&format!("{answer:?} is tried again"), || {
                got(collector.spans()).then_some(())
            });
            let made = collector.requests()[requests..].to_vec();
            let bodies: Vec<_> = made.iter().map(|request| &request.body).collect();
            let same = bodies.windows(2).any(|pair| pair[0] == pair[1]);
            assert!(same, "the same spans, {answer:?}");
        } else {
            becomes_counted(&stage, "failed", failed + 1);
            let made = collector.requests()[requests..].to_vec();
            let bodies: Vec<_> = made.iter().map(|request| &request.body).collect();
            let same = bodies.windows(2).any(|pair| pair[0] == pair[1]);
            assert!(!same, "not the same again, {answer:?}");
        }
    }
    // One line of trouble, however many requests failed.
    let log = stage.weir().log();
    let lines = log.matches("does not take all spans").count();
    assert!((1..=6).contains(&lines), "{log}");
    assert!(log.contains("it answered 503"), "{log}");
}

#[test]
fn spans_that_a_collector_rejects_are_counted_and_not_sent_again() {
    let collector = Collector::start();
    let stage = stage(&collector, "0%");
    let partial = json!({"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}});
    collector.does(move |_| Some(Act::Say(200, partial.to_string())));
    sends(&stage, "lamp", 1, &parent("01"));
    becomes_counted(&stage, "rejected", 1);
    stage.weir().says("it rejected spans: too old");
    collector.gets("send shop", 1);
    let spans = collector.spans();
    let mut ids: Vec<_> = spans.iter().map(|span| span.id().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), spans.len(), "each was sent once");
}

// The collector hung, and a queue without a bound took the memory; or nothing was said of what was lost.
#[test]
fn a_collector_that_hangs_costs_spans_and_nothing_else() {
    let collector = Collector::start();
    let mut stage = stage(&collector, "100%");
    collector.does(|_| Some(Act::Hang(false)));
    for round in 0..40 {
        let changes: Vec<_> = (0..100)
            .map(|n| change(&format!("lamp-{n}"), "content", json!(round)))
            .collect();
        stage.takes("pim", &changes);
    }
    becomes_counted(&stage, "dropped", 100);
    stage.settles("shop");
    // The stop does not wait for it.
    stage.stop();
}

#[test]
fn what_waits_is_exported_when_weir_stops() {
    let collector = Collector::start();
    let mut stage = stage(&collector, "0%");
    sends(&stage, "lamp", 1, &parent("01"));
    stage.settles("shop");
    stage.stop();
    let spans = collector.spans();
    let names: Vec<&str> = spans.iter().map(Span::name).collect();
    let expected = ["receive pim", "process pim", "send shop"];
    for name in expected {
        assert!(names.contains(&name), "{names:?}");
    }
    // The requests to the collector have none.
    assert!(names.iter().all(|it| expected.contains(it)), "{names:?}");
}

#[test]
fn a_reload_switches_the_export_on_and_over_and_off() {
    let (first, second) = (Collector::start(), Collector::start());
    let stage = Stage::catalog();
    stage.swept("shop");
    sends(&stage, "lamp", 1, &parent("01"));
    stage.settles("shop");
    let metrics = stage.weir().get("/metrics").text();
    assert!(!metrics.contains("weir_trace_spans_total{"), "{metrics}");

    stage.reloads(&telemetry(&first, "0%"));
    sends(&stage, "lamp", 2, &parent("01"));
    first.gets("send shop", 1);
    let view = stage.reload(&telemetry(&second, "0%"));
    assert_eq!(
        view["changes"],
        json!(["telemetry has changed"]),
        "{view:#}"
    );
    sends(&stage, "lamp", 3, &parent("01"));
    second.gets("send shop", 1);
    assert_eq!(first.gets("send shop", 1).len(), 1);

    stage.reloads(CATALOG);
    sends(&stage, "lamp", 4, &parent("01"));
    stage.settles("shop");
    stage.reloads(&telemetry(&second, "0%"));
    sends(&stage, "lamp", 5, &parent("01"));
    let sent = second.gets("send shop", 2);
    assert_eq!(sent.len(), 2, "the fourth was not recorded: {sent:#?}");
}

/// What `weir check` says of a configuration.
fn check(stage: &Stage, config: &str, options: &[&str]) -> String {
    stage.configure(config);
    let arguments = [&["check", "-c", "weir.toml"][..], options].concat();
    let output = command(stage.folder(), &arguments);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn the_address_and_the_headers_of_a_collector_are_checked_and_hidden() {
    let collector = Collector::start();
    let config = format!(
        "{}headers = {{ X-Key = {{ env = \"COLLECTOR_KEY\" }} }}\n",
        telemetry(&collector, "0%")
    );
    let mut stage = Stage::closed(&config);
    // What other programs read of the environment is no second configuration.
    stage.start_with(&[
        ("COLLECTOR_KEY", "open sesame of the collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-other=1"),
    ]);
    stage.swept("shop");
    sends(&stage, "lamp", 1, &parent("01"));
    collector.gets("send shop", 1);
    let request = &collector.requests()[0];
    assert_eq!(
        request.header("x-key"),
        Some("open sesame of the collector")
    );
    assert_eq!(request.header("x-other"), None);
    let shown = stage.weir().get("/v1/config").json();
    assert_eq!(
        shown["config"]["telemetry"]["headers"],
        json!({"x-key": "[secret]"}),
        "{shown:#}"
    );
    assert!(!stage.weir().log().contains("sesame"));

    let text = check(
        &stage,
        &format!("{CATALOG}[telemetry]\nsample = \"2\"\nendpont = \"x\"\n"),
        &[],
    );
    for complaint in [
        "telemetry: endpoint is missing",
        "telemetry.sample: ",
        "telemetry.endpont: there is no such key; did you mean \"endpoint\"?",
    ] {
        assert!(text.contains(complaint), "{complaint} in {text}");
    }
    stage.stop();
    let requests = collector.requests().len();
    let text = check(&stage, &telemetry(&collector, "0%"), &["--connect"]);
    assert!(text.contains("The configuration is valid"), "{text}");
    assert_eq!(collector.requests().len(), requests, "it sends nothing");
    let closed = collector.endpoint();
    drop(collector);
    let dead = format!("{CATALOG}[telemetry]\nendpoint = \"{closed}\"\n");
    let text = check(&stage, &dead, &["--connect"]);
    assert!(
        text.contains("telemetry: no connection to 127.0.0.1"),
        "{text}"
    );
}

/// Reads a request as protobuf's JSON has it, in which unknown names and wrong types are errors. In OTLP ids
/// are hexadecimal, in protobuf's JSON they are base64.
const READ: &str = r#"
import base64, json, sys
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

def ids(value):
    if isinstance(value, list):
        return [ids(each) for each in value]
    if not isinstance(value, dict):
        return value
    hexadecimal = ("traceId", "spanId", "parentSpanId")
    return {
        name: base64.b64encode(bytes.fromhex(each)).decode() if name in hexadecimal else ids(each)
        for name, each in value.items()
    }

request = Parse(json.dumps(ids(json.load(sys.stdin))), ExportTraceServiceRequest())
spans = [span for of in request.resource_spans for scope in of.scope_spans for span in scope.spans]
json.dump([
    [span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.kind,
     len(span.links), span.start_time_unix_nano <= span.end_time_unix_nano]
    for span in spans
], sys.stdout)
"#;

#[test]
fn the_definitions_of_opentelemetry_read_what_is_sent() {
    let proves = "whether the definitions of OpenTelemetry read what a collector gets";
    let Some(python) = python_with("opentelemetry.proto", proves) else {
        return;
    };
    let collector = Collector::start();
    let stage = stage(&collector, "0%");
    sends(&stage, "lamp", 1, &parent("01"));
    collector.gets("send shop", 1);
    for request in collector.requests() {
        let mut reader = Command::new(&python)
            .args(["-c", READ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut input = reader.stdin.take().expect("a pipe");
        input.write_all(&request.body).expect("written");
        drop(input);
        let read = reader.wait_with_output().expect("it ends");
        assert!(
            read.status.success(),
            "{}",
            String::from_utf8_lossy(&request.body)
        );
        let read: Value = serde_json::from_slice(&read.stdout).expect("JSON");
        let sent = crate::support::otlp::spans_of(&request.json());
        let sent: Vec<Value> = sent
            .iter()
            .map(|span| {
                let (kind, links) = (&span.0["kind"], span.links().len());
                json!([
                    span.name(),
                    span.trace(),
                    span.id(),
                    span.parent(),
                    kind,
                    links,
                    true
                ])
            })
            .collect();
        assert_eq!(read, json!(sent));
    }
}
