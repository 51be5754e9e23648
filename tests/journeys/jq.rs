//! The plugins that come with Weir and run jq programs: events are filtered and mapped, and entities
//! rendered, with nothing but a configuration. A program changes while Weir runs; one that is wrong is
//! refused with its place, and one that misbehaves costs the event that made it do so.

#[path = "../../plugins/jq/tests/suite/cases.rs"]
mod cases;

use std::sync::LazyLock;

use serde_json::{Value, json};
use weir::inside::author::cases::Output;
use weir::inside::author::harness::{Harness, Input};
use weir::inside::model::{Event, Payload};
use weir::inside::plugin::{Binary, Limits};

use crate::support::components;
use crate::support::parts;
use crate::support::{Stage, becomes, eventually};

const CONFIG: &str = r#"
[entities.product]
facets.base = { owner = "erp" }

[plugins.noise]
builtin = "jq-filter"
settings.program = '.do != "nothing"'
[plugins.map]
builtin = "jq-mapper"
settings = { program = { file = "map.jq" }, currency = "EUR" }
limits = { memory = "32MiB" }
[plugins.sold]
builtin = "jq-filter"
settings.program = '.facets.base.amount != "0"'
[plugins.page]
builtin = "jq-renderer"
settings.program = '''
{ body: (.facets.base + { site: $settings.site }) }
'''

[sources.erp]
plugins = ["noise", "map"]

[each.site.de]
[channels.shop]
for_each = "site"
entity = "product"
facets = ["base"]
plugins = ["sold", "page"]
target = { kind = "webhook", url = "{shop}" }
"#;

/// The program of the mapper, with a place for what `.do` asks for.
const MAP: &str = r#"
def done(do):
  if do == "halt" then halt
  elif do == "input" then input
  elif do == "now" then now
  elif do == "env" then env
  elif do == "infinite" then 1 / 0
  elif do == "keys" then { (1): 2 }
  elif do == "nested" then reduce range(1000) as $i (0; [.])
  elif do == "endless" then def again: again; again
  elif do == "deep" then def deeper: 1 + deeper; deeper
  elif do == "large" then "x" * 2000000000
  elif do == "all" then [limit(infinite; repeat(1))]
  else null end;

{ type: "product", key: $event.id, facet: "base", value: ({ amount: .price, currency: $settings.currency } + { extra: done(.do) }) }
| del(.value.extra | select(. == null))
"#;

fn stage() -> Stage {
    for name in ["jq-filter", "jq-mapper", "jq-renderer"] {
        components::plugin(name);
    }
    let mut stage = Stage::closed(CONFIG);
    stage.place("map.jq", MAP.as_bytes());
    stage.start();
    stage
}

fn event(key: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": key, "source": "erp", "type": "article", "data": data})
}

/// Sends events and returns the response.
fn send(stage: &Stage, events: &[Value]) -> Value {
    let form = [("content-type", "application/cloudevents-batch+json")];
    let reply = stage.send("erp", &form, json!(events).to_string().as_bytes());
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()
}

fn page(amount: &str) -> Value {
    json!({"amount": amount, "currency": "EUR", "site": "de"})
}

#[track_caller]
fn shop_holds(stage: &Stage, key: &str, page: Value) {
    becomes(&format!("{key} in the shop"), Some(page), || {
        stage.shop.holds().get(key).cloned()
    });
}

#[test]
fn a_catalogue_is_mapped_filtered_and_rendered_by_programs() {
    let stage = stage();
    let answer = send(
        &stage,
        &[
            event("lamp", json!({"price": "9.90"})),
            event("noise", json!({"price": "1", "do": "nothing"})),
            event("sold-out", json!({"price": "0"})),
        ],
    );
    assert_eq!(
        (&answer["events"]["accepted"], &answer["events"]["filtered"]),
        (&json!(2), &json!(1)),
        "{answer:#}"
    );
    shop_holds(&stage, "lamp", page("9.90"));
    stage.stands("sold-out", "shop.de", "withheld");
    assert_eq!(stage.shop.holds().len(), 1);
}

#[test]
fn a_program_that_misbehaves_costs_its_event_and_is_named() {
    let stage = stage();
    for (does, codes, words) in [
        ("halt", &["exception"][..], "called `halt`"),
        ("input", &["exception"], "a plugin has no `input`"),
        ("now", &["exception"], "a plugin has no `now`"),
        ("env", &["exception"], "a plugin has no `env`"),
        ("infinite", &["not-json"], "extra is Infinity"),
        (
            "keys",
            &["not-json"],
            "extra has the key 1, which is not text",
        ),
        (
            "nested",
            &["not-json"],
            "is nested more than 128 levels deep",
        ),
        ("endless", &["time-limit"], "time limit of 1 s exceeded"),
        ("deep", &["stack-limit", "trap"], ""),
        ("large", &["memory-limit"], "32 MiB"),
        ("all", &["memory-limit", "time-limit"], "exceeded"),
    ] {
        let key = |name: &str| format!("{name}-{does}");
        let answer = send(
            &stage,
            &[
                event(&key("a"), json!({"price": "1"})),
                event(&key("bad"), json!({"price": "1", "do": does})),
                event(&key("b"), json!({"price": "2"})),
            ],
        );
        assert_eq!(answer["events"]["accepted"], 2, "{does}: {answer:#}");
        assert_eq!(answer["problems"][0]["index"], 1, "{does}: {answer:#}");
        let kept = stage
            .quarantine("erp")
            .into_iter()
            .find(|kept| kept["event"]["id"] == json!(key("bad")))
            .expect("it is kept");
        let (code, detail) = (kept["code"].as_str(), kept["detail"].as_str());
        assert!(code.is_some_and(|code| codes.contains(&code)), "{kept:#}");
        assert!(
            detail.is_some_and(|detail| detail.contains(words)),
            "{kept:#}"
        );
        // Nothing of it is left in the instances that serve the next events.
        for turn in 0..16 {
            let price = format!("{turn}.50");
            send(
                &stage,
                &[event(
                    &format!("{}-{turn}", key("next")),
                    json!({"price": price}),
                )],
            );
        }
        for turn in 0..16 {
            let key = format!("{}-{turn}", key("next"));
            shop_holds(&stage, &key, page(&format!("{turn}.50")));
        }
    }
}

#[test]
fn a_changed_program_takes_over_and_a_wrong_one_is_refused_with_its_place() {
    let stage = stage();
    send(&stage, &[event("lamp", json!({"price": "9.90"}))]);
    shop_holds(&stage, "lamp", page("9.90"));

    // In a file of its own.
    let wrong = MAP.replace("do == \"now\"", "do === \"now\"");
    stage.place("map.jq", wrong.as_bytes());
    let view = stage.reload_files();
    assert_eq!(view["status"], 422, "{view:#}");
    let complaint = &view["complaints"][0];
    assert_eq!(
        (&complaint["line"], &complaint["column"]),
        (&json!(5), &json!(11)),
        "{view:#}"
    );
    let what = complaint["what"].as_str().unwrap_or_default();
    assert!(what.starts_with("sources.erp.plugins[1]: "), "{view:#}");
    let file = complaint["file"].as_str().unwrap_or_default();
    assert!(file.ends_with("map.jq"), "{view:#}");
    send(&stage, &[event("lamp", json!({"price": "9.80"}))]);
    send(&stage, &[event("desk", json!({"price": "9.80"}))]);
    shop_holds(&stage, "desk", page("9.80"));

    let right = MAP.replace("amount: .price", "amount: (.price + \"0\")");
    stage.place("map.jq", right.as_bytes());
    let view = stage.reload_files();
    assert_eq!(view["success"], true, "{view:#}");
    send(&stage, &[event("chair", json!({"price": "9.9"}))]);
    shop_holds(&stage, "chair", page("9.90"));

    // In the configuration itself. A renderer that changes renders anew what was delivered before.
    let wrong = CONFIG.replace("$settings.site }", "$site }");
    let view = stage.reload(&wrong);
    assert_eq!(view["status"], 422, "{view:#}");
    let text = std::fs::read_to_string(stage.folder().join("weir.toml")).expect("a file");
    let complaint = &view["complaints"][0];
    let (line, column) = (complaint["line"].as_u64(), complaint["column"].as_u64());
    let at = (
        line.unwrap_or(1) as usize - 1,
        column.unwrap_or(1) as usize - 1,
    );
    let there = text.lines().nth(at.0).and_then(|line| line.get(at.1..));
    assert_eq!(there, Some("$site }) }"), "{view:#}");

    stage.reloads(&CONFIG.replace("site: $settings.site", "shop: $settings.site"));
    eventually("the lamp is rendered anew", || {
        let lamp = stage.shop.holds().get("lamp").cloned()?;
        (lamp["shop"] == "de" && lamp["site"] == Value::Null).then_some(())
    });
}

/// A line of a table of the page: input, program, and the outputs or, after `fails: `, a part of the
/// failure's message. Only lines with these three, each in backticks, are meant.
fn row(line: &str) -> Option<[String; 3]> {
    let line = line.replace("\\|", "\u{1}");
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let ["", input, program, result, ""] = cells[..] else {
        return None;
    };
    let code = |cell: &str| {
        let code = cell.strip_prefix('`')?.strip_suffix('`')?;
        Some(code.replace('\u{1}', "|"))
    };
    let result = match result.strip_prefix("fails: ") {
        Some(message) => format!("fails: {}", code(message)?),
        None => code(result)?,
    };
    Some([code(input)?, code(program)?, result])
}

/// A component in the harness of plugin authors, which has the limits of a serving Weir.
fn harness(folder: &str) -> Harness {
    let component = std::fs::read(components::built(folder)).expect("a component");
    let harness = Harness::load(folder, &Binary::new(component), Limits::default());
    harness.unwrap_or_else(|fault| panic!("{folder}: {fault}"))
}

/// The mapper, which takes half a minute to compile.
static MAPPER: LazyLock<Harness> = LazyLock::new(|| harness("plugins/jq-mapper"));

#[test]
fn the_differences_from_jq_are_as_the_page_says() {
    let page = include_str!("../../runtime/docs/jq.md");
    let rows: Vec<[String; 3]> = page.lines().filter_map(row).collect();
    assert!(rows.len() >= 20, "only {} lines were found", rows.len());
    for [input, program, result] in rows {
        let program = format!(r#"{{ type: "t", key: "k", facet: "f", value: [{program}] }}"#);
        let settings = json!({ "program": program }).to_string();
        let event = Event::plain(None, Payload::from_bytes(input.clone().into_bytes()));
        let report = MAPPER.run(&settings, Input::Events(vec![event]));
        let report = report.unwrap_or_else(|fault| panic!("{program}: {fault}"));
        let output = match &report.calls[0].outputs[..] {
            [Output::Changes(changes)] => {
                changes[0].value.clone().unwrap_or_default().into_string()
            }
            [Output::Failed(failure)] => format!("fails: {}", failure.message),
            other => panic!("{program}: {other:?}"),
        };
        match result.strip_prefix("fails: ") {
            Some(words) => assert!(
                output.starts_with("fails: ") && output.contains(words),
                "{input} | {program}: {output}"
            ),
            None => assert_eq!(
                output,
                format!("[{}]", result.replace(' ', ",")),
                "{input} | {program}"
            ),
        }
    }
}

/// jq's own tests have cases that build values of ten thousand levels or of gigabytes. Here each of them has
/// the output that jq has, or fails by the name of a limit, and the event behind it is mapped.
#[test]
fn what_is_too_large_or_too_deep_fails_by_name() {
    const LIMITS: [&str; 6] = [
        "memory-limit",
        "time-limit",
        "output-limit",
        "stack-limit",
        "trap",
        "not-json",
    ];
    let Some(text) = parts::text("jq/jq.test", "jq's cases of large and deep values") else {
        return;
    };
    let list = include_str!("../../plugins/jq/tests/suite/otherwise.txt");
    let extreme: Vec<cases::Case> = cases::Cases::of(&text)
        .filter(|case| case.is_extreme() && !case.refused)
        .collect();
    assert!(extreme.len() >= 19, "only {} cases", extreme.len());
    for case in extreme {
        let listed = list.contains(&format!("\njq.test:{} ", case.line));
        let program = format!(
            r#"{{ type: "t", key: "k", facet: "f", value: (if . == "next" then . else [{}] end) }}"#,
            case.program
        );
        let settings = json!({ "program": program }).to_string();
        let events = [case.input.as_str(), r#""next""#]
            .map(|data| Event::plain(None, Payload::from_bytes(data.as_bytes().to_vec())));
        let report = MAPPER.run(&settings, Input::Events(events.to_vec()));
        let report = report.unwrap_or_else(|fault| panic!("{program}: {fault}"));
        let [output, next] = &report.calls[0].outputs[..] else {
            panic!("{program}: {report:?}");
        };
        match output {
            Output::Changes(changes) => {
                let right = format!("[{}]", case.outputs.join(","));
                let value = changes[0].value.as_deref().unwrap_or_default();
                assert!(listed || value == right, "{program}: {value}");
            }
            Output::Failed(failure) => assert!(
                LIMITS.contains(&failure.code.as_str()) || listed && failure.code == "exception",
                "{program}: {failure:?}"
            ),
            other => panic!("{program}: {other:?}"),
        }
        let Output::Changes(changes) = next else {
            panic!("behind {program}: {next:?}");
        };
        assert_eq!(changes[0].value.as_deref(), Some(r#""next""#), "{program}");
    }
}

/// What GitHub sends becomes CloudEvents by the rules of their adapter. A plugin in Rust and a program state
/// the rules; over the examples of GitHub's own library they make the same, to the letter.
#[test]
fn webhooks_of_github_are_mapped_as_by_a_plugin_in_rust() {
    const EVENTS_A_CALL: usize = 64;
    let Some(deliveries) = deliveries() else {
        return;
    };
    let program = include_str!("../support/guests/github/src/map.jq");
    let settings = json!({ "program": program }).to_string();
    let plugin = harness("tests/support/guests/github");
    let mut outputs = Vec::new();
    for deliveries in deliveries.chunks(EVENTS_A_CALL) {
        let mapped = |harness: &Harness, settings: &str| {
            let report = harness.run(settings, Input::Events(deliveries.to_vec()));
            let call = report.expect("a report").calls.remove(0);
            assert_eq!(call.fault, None);
            call.outputs
        };
        let (expected, actual) = (mapped(&plugin, "{}"), mapped(&MAPPER, &settings));
        for ((delivery, expected), actual) in deliveries.iter().zip(expected).zip(&actual) {
            assert_eq!(&expected, actual, "{:?}", delivery.attributes);
        }
        outputs.extend(actual);
    }
    // The values below are written by hand from the rules.
    assert_eq!(outputs.len(), 329);
    let envelopes: Vec<Value> = outputs
        .into_iter()
        .map(|output| match output {
            Output::Changes(changes) => {
                let value = changes[0].value.as_deref().expect("a value");
                serde_json::from_str(value).expect("JSON")
            }
            other => panic!("{other:?}"),
        })
        .collect();
    for expected in [
        json!({
            "type": "com.github.issue.opened",
            "source": "https://api.github.com/repos/Codertocat/Hello-World",
            "subject": "1",
            "time": "2019-05-15T15:20:18Z",
        }),
        json!({
            "type": "com.github.commit_comment.created",
            "source": "https://api.github.com/repos/Codertocat/Hello-World/comments/33548674\
                       /6113728f27ae82c7b1a177c8d03f9e96e0adf246",
            "subject": "33548674",
            "time": "2019-05-15T15:20:39Z",
        }),
        json!({
            "type": "com.github.installation.deleted",
            "source": "https://api.github.com/users/octocat",
            "subject": "2",
            "time": "2018-04-30T17:38:19Z",
        }),
        json!({
            "type": "com.github.push",
            "source": "https://github.com/Codertocat/Hello-World",
            "subject": "refs/tags/simple-tag",
            "time": null,
        }),
    ] {
        let members = ["type", "source", "subject", "time"];
        let same = |envelope: &&Value| members.iter().all(|name| envelope[name] == expected[name]);
        assert!(
            envelopes.iter().any(|envelope| same(&envelope)),
            "{expected:#}"
        );
    }
}

/// The examples of webhooks in GitHub's own library, with the headers that tell them apart.
fn deliveries() -> Option<Vec<Event>> {
    let file = "@octokit/webhooks-examples/api.github.com/index.json";
    let kinds = parts::script(file, "a jq program over webhooks of GitHub")?;
    let kinds: Vec<Value> = serde_json::from_str(&kinds).expect("JSON");
    let examples = kinds.iter().flat_map(|kind| {
        let examples = kind["examples"].as_array().expect("a list");
        examples.iter().map(|example| (&kind["name"], example))
    });
    let delivery = |(number, (name, example)): (usize, (&Value, &Value))| {
        let body = Payload::from_bytes(example.to_string().into_bytes());
        let mut event = Event::plain(Some("application/json"), body);
        let headers = [
            ("x-github-event", name.as_str().expect("a name").to_owned()),
            ("x-github-delivery", format!("delivery-{number}")),
        ];
        event.attributes = headers.map(|(name, value)| (name.to_owned(), value)).into();
        event
    };
    Some(examples.enumerate().map(delivery).collect())
}
