//! Tests of the kit for plugin authors in Rust, with components that use it: their output arrives,
//! and they cost about as much as handwritten ones.

use std::path::Path;

use weir::inside::author::cases::Output;
use weir::inside::author::harness::{Harness, Input, Report};
use weir::inside::model::{Change, EntityId, Event, Payload, View};
use weir::inside::plugin::{Binary, Fault, Limits, Role};

use crate::components;

fn run(component: &Path, settings: &str, input: Input) -> Result<Report, Fault> {
    let binary = Binary::read(component).expect("a component");
    Harness::load("guest", &binary, Limits::default())
        .expect("it loads")
        .run(settings, input)
}

fn event(event_type: &str, data: &str) -> Event {
    Event {
        id: "1".into(),
        origin: "test".into(),
        event_type: event_type.into(),
        subject: None,
        time: None,
        content_type: None,
        attributes: Vec::new(),
        trace: None,
        data: Payload::from_bytes(data.as_bytes().to_vec()),
    }
}

/// The outputs of a role; panics on a fault.
fn outputs(report: &Report, role: Role) -> &[Output] {
    let call = report
        .calls
        .iter()
        .find(|call| call.role == role)
        .expect("the role is played");
    assert!(call.fault.is_none(), "{call:?}");
    &call.outputs
}

fn describe(output: &Output) -> String {
    match output {
        Output::Changes(changes) => changes.iter().map(change).collect::<Vec<_>>().join(", "),
        Output::Failed(failure) => format!("{}: {}", failure.code, failure.message),
        other => format!("{other:?}"),
    }
}

fn change(change: &Change) -> String {
    let Change {
        key,
        facet,
        value,
        version,
        lane,
        ..
    } = change;
    format!(
        "{key} {facet} {} {version:?} {lane:?}",
        value.as_deref().unwrap_or("gone")
    )
}

#[test]
fn what_an_author_writes_arrives() {
    let given = [
        (
            "json",
            r#"{"sku": "1"}"#,
            r#"lamp-1 base "1" Some(7) Some(Urgent)"#,
        ),
        ("xml", r#"<lamp sku="2"/>"#, r#"lamp-2 base "2" None None"#),
        (
            "csv",
            "sku;name\n3;Fjord\n4;Tal\n",
            r#"lamp-3 base "3" None None, lamp-4 base "4" None None"#,
        ),
        ("deleted", "5", "5 base gone None None"),
        (
            "json",
            "<lamp/>",
            "broken-json: the JSON is not as expected: expected value at line 1 column 1",
        ),
        ("other", "", "unknown-type: nobody knows `other`"),
    ];
    let events = given
        .iter()
        .map(|(event_type, data, _)| event(event_type, data))
        .collect();
    let report = run(
        &components::built("tests/support/guests/kit-source"),
        r#"{"prefix": "lamp-"}"#,
        Input::Events(events),
    )
    .expect("a run");
    assert_eq!(report.roles, [Role::EventFilter, Role::Mapper]);
    let described: Vec<String> = outputs(&report, Role::Mapper)
        .iter()
        .map(describe)
        .collect();
    assert_eq!(described, given.map(|(_, _, expected)| expected));
    assert!(
        report
            .log
            .iter()
            .any(|line| line.message == "lamp- looks at xml"),
        "{:?}",
        report.log
    );
}

#[test]
fn a_filter_and_a_mapper_of_one_crate_share_their_settings() {
    let events = vec![
        event("json", r#"{"sku": "1"}"#),
        event("json", r#"{"sku": "1234567890"}"#),
    ];
    let settings = r#"{"prefix": "", "limits": {"most": 16}}"#;
    let report = run(
        &components::built("tests/support/guests/kit-source"),
        settings,
        Input::Events(events),
    )
    .expect("a run");
    assert_eq!(
        outputs(&report, Role::EventFilter),
        [Output::Accepted(true), Output::Accepted(false)]
    );
}

#[test]
fn a_setting_that_does_not_fit_is_named() {
    let component = components::built("tests/support/guests/kit-source");
    for (settings, said) in [
        (
            r#"{"prefix": "", "limits": {"most": "all"}}"#,
            "settings of kit-source: limits.most should be",
        ),
        (
            r#"{"prefix": "", "limit": {}}"#,
            "settings of kit-source: unknown setting `limit`; known settings: ",
        ),
        ("{}", "settings of kit-source: `prefix` is missing"),
    ] {
        let fault = run(
            &component,
            settings,
            Input::Events(vec![event("json", "{}")]),
        )
        .expect_err(settings);
        assert!(fault.to_string().contains(said), "{fault}");
    }
}

#[test]
fn a_panic_says_its_message_in_the_log_and_in_the_failure() {
    let events = vec![event("panic", "Fjord")];
    let report = run(
        &components::built("tests/support/guests/kit-source"),
        r#"{"prefix": ""}"#,
        Input::Events(events),
    )
    .expect("a run");
    let call = report
        .calls
        .iter()
        .find(|call| call.role == Role::Mapper)
        .expect("the mapper was called");
    let fault = call.fault.as_ref().expect("a panic").to_string();
    assert!(fault.contains("the lamp Fjord is broken"), "{fault}");
    assert!(
        report
            .log
            .iter()
            .any(|line| line.message.contains("the lamp Fjord is broken")),
        "{:?}",
        report.log
    );
}

#[test]
fn a_filter_and_a_renderer_of_one_crate_need_no_settings() {
    let view = |key: &str, facets: &[(&str, &str)]| View {
        id: EntityId {
            entity_type: "product".into(),
            key: key.into(),
        },
        facets: facets
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
    };
    let views = vec![
        view(
            "1",
            &[
                ("name", r#""Fjord""#),
                ("stock.berlin", "3"),
                ("stock.ulm", "4"),
            ],
        ),
        view("2", &[]),
        view("dropped", &[("name", "7")]),
    ];
    let report = run(
        &components::built("tests/support/guests/kit-channel"),
        "{}",
        Input::Entities(views),
    )
    .expect("a run");
    assert_eq!(
        outputs(&report, Role::EntityFilter),
        [
            Output::Accepted(true),
            Output::Accepted(true),
            Output::Accepted(false)
        ]
    );
    let [
        Output::Rendered(Some(lamp)),
        Output::Rendered(None),
        Output::Failed(failure),
    ] = outputs(&report, Role::Renderer)
    else {
        panic!("{report:?}")
    };
    assert_eq!(
        (lamp.key.as_deref(), lamp.content_type.as_deref()),
        (Some("lamp-1"), Some("application/ld+json"))
    );
    assert_eq!(lamp.body.as_bytes(), br#"["Fjord",["berlin","ulm"]]"#);
    assert_eq!(failure.code, "wrong-facet");
}

/// The kit is copied into new plugins, so it contains a copy of the interface, which must be the
/// current one.
#[test]
fn the_interface_that_travels_with_the_kit_is_the_hosts() {
    let ours = include_str!("../../wit/plugin.wit");
    let copy = include_str!("../../plugins/weir-plugin/wit/plugin.wit");
    assert!(
        ours == copy,
        "copy wit/plugin.wit to plugins/weir-plugin/wit/plugin.wit"
    );
}

/// Fuel repeats exactly, so the bound does not depend on chance. The events are small, because
/// there the overhead around a mapping weighs most.
#[test]
fn the_kit_costs_at_most_a_twentieth_more_than_bindings_by_hand() {
    let level = |available: u32| {
        let data = format!(
            r#"{{"inventory_item_id":271878346596884015,"location_id":24826418,"sku":"47110{available}","available":{available},"updated_at":"2026-11-23T08:14:41+01:00"}}"#
        );
        event("", &data)
    };
    let settings = r#"{"locations": {"24826418": "berlin"}}"#;
    let fuel = |component: &Path| {
        let report = run(
            component,
            settings,
            Input::Events((0..64).map(level).collect()),
        )
        .expect("a run");
        let changes: Vec<String> = outputs(&report, Role::Mapper)
            .iter()
            .map(describe)
            .collect();
        (
            report.calls.iter().map(|call| call.fuel).sum::<u64>(),
            changes,
        )
    };
    let (by_hand, expected) = fuel(&components::built("tests/support/guests/by-hand"));
    let (with_kit, changes) = fuel(&components::plugin("oms-stock"));
    assert_eq!(changes, expected);
    println!("fuel of 64 levels: {by_hand} by hand, {with_kit} with the kit");
    assert!(
        with_kit * 100 <= by_hand * 105,
        "{with_kit} with the kit, {by_hand} by hand"
    );
}
