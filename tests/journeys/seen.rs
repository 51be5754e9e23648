//! What is shown of a channel, from outside: how long its changes took, how late it is, which entities it owes
//! for the longest time, and what became of the changes.

use serde_json::{Value, json};

use crate::support::parts::part;
use crate::support::stage::CATALOG;
use crate::support::weir::command;
use crate::support::{Act, Stage, change, eventually};

#[test]
fn the_time_from_acceptance_to_delivery_is_shown_by_lane_and_kept_over_a_restart() {
    let mut stage = Stage::catalog();
    stage.takes(
        "pim",
        &[
            change("lamp", "content", json!(1)),
            change("desk", "content", json!(1)),
        ],
    );
    stage.takes("erp", &[change("lamp", "price.de", json!(1))]);
    stage.settles("shop");
    let deliveries = stage.shop.count();
    let of_channel = |stage: &Stage, channel: &str, span: &str| -> (u64, Value) {
        let latency = stage.channel(channel)["latency"].clone();
        let counts = ["urgent", "normal", "bulk"].map(|lane| latency[lane][span]["count"].as_u64());
        (counts.iter().flatten().sum(), latency)
    };
    let of = |stage: &Stage, span: &str| of_channel(stage, "shop", span);
    for span in ["minute", "hour", "day"] {
        let (count, latency) = of(&stage, span);
        assert_eq!(count as usize, deliveries, "{latency:#}");
        assert!(latency["normal"][span]["p99_ms"].is_u64(), "{latency:#}");
        assert_eq!(latency["bulk"][span], json!({"count": 0}), "{latency:#}");
    }
    stage.stop();
    stage.start();
    let (count, latency) = of(&stage, "day");
    assert_eq!(count as usize, deliveries, "{latency:#}");
    assert_eq!(of(&stage, "minute").0, 0);
    // A channel with another name is the same one.
    let renamed = CATALOG.replace("[channels.shop]", "[channels.store]\nwas = \"shop\"");
    stage.reloads(&renamed);
    let (count, latency) = of_channel(&stage, "store", "day");
    assert_eq!(count as usize, deliveries, "{latency:#}");
}

#[test]
fn a_channel_that_delivers_nothing_is_late_and_names_what_it_owes() {
    let config = CATALOG.to_owned() + "freshness = \"1s\"\n";
    let stage = Stage::with(&config);
    let late = |stage: &Stage| {
        stage.channel("shop")["late_seconds"]
            .as_f64()
            .expect("a number")
    };
    assert_eq!(late(&stage), 0.0);
    let metrics = stage.weir().get("/metrics").text();
    assert!(
        metrics.contains("weir_late_seconds_total{channel=\"shop\"} 0.0\n"),
        "{metrics}"
    );
    assert!(
        !metrics.contains("weir_oldest_owed_timestamp_seconds{"),
        "{metrics}"
    );
    stage.shop.does(|_| Act::Say(500, "no room".into()));
    let changes: Vec<_> = (0..12)
        .map(|n| change(&format!("lamp-{n:02}"), "content", json!(1)))
        .collect();
    stage.takes("pim", &changes);
    eventually("it counts as late", || (late(&stage) > 0.5).then_some(()));
    let channel = stage.channel("shop");
    let oldest = channel["oldest"].as_array().expect("a list");
    assert_eq!(oldest.len(), 10, "{channel:#}");
    assert_eq!(oldest[0]["key"], "lamp-00", "{channel:#}");
    assert!(
        oldest.iter().any(|it| it["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("500"))),
        "{channel:#}"
    );
    assert_eq!(oldest[0]["since"], channel["oldest_owed"], "{channel:#}");
    let metrics = stage.weir().get("/metrics").text();
    assert!(
        metrics.contains("weir_oldest_owed_timestamp_seconds{channel=\"shop\"} "),
        "{metrics}"
    );
    let list = stage.weir().get("/v1/channels").json();
    assert_eq!(
        list["items"][0]["oldest"],
        Value::Null,
        "only where one channel is asked for"
    );
    stage.shop.does(|_| Act::Answer(200));
    stage.settles("shop");
    let channel = stage.channel("shop");
    assert_eq!(
        (&channel["oldest"], &channel["oldest_owed"]),
        (&Value::Null, &Value::Null),
        "{channel:#}"
    );
}

#[test]
fn each_change_is_counted_once_by_what_became_of_it() {
    let stage = Stage::catalog();
    stage.operate("shop", "pause");
    for value in 1..=5 {
        stage.takes("pim", &[change("lamp", "content", json!(value))]);
        stage.takes("erp", &[change("lamp", "price.de", json!(value))]);
    }
    // The same value again is no change.
    stage.takes(
        "pim",
        &[
            change("lamp", "content", json!(5)),
            change("desk", "content", json!(1)),
        ],
    );
    let flow = stage.channel("shop")["flow"].clone();
    assert_eq!(
        (&flow["changes"], &flow["estimate"]),
        (&json!(11), &json!(true)),
        "{flow:#}"
    );
    stage.operate("shop", "resume");
    stage.settles("shop");
    let flow = stage.channel("shop")["flow"].clone();
    let expected = |name: &str, count: u64| assert_eq!(flow[name], count, "{name} of {flow:#}");
    let delivered = flow["delivered"].as_u64().expect("a number");
    assert!(
        (2..=3).contains(&delivered),
        "the lamp once or, in two lanes, twice: {flow:#}"
    );
    expected("changes", 11);
    expected("coalesced", 11 - delivered);
    for none in [
        "suppressed",
        "withheld",
        "withdrawn",
        "refused",
        "counted",
        "owed",
        "retried",
        "unasked",
    ] {
        expected(none, 0);
    }
    assert_eq!(flow["estimate"], false, "{flow:#}");
    let is =
        |factor: &Value, exact: f64| factor.as_f64().is_some_and(|it| (it - exact).abs() < 1e-9);
    assert!(is(&flow["factor"], delivered as f64 / 11.0), "{flow:#}");
    let pim = stage.weir().get("/v1/sources/pim").json();
    assert_eq!(pim["changes"]["unchanged"], 1, "{pim:#}");
    assert!(is(&pim["factor"], 6.0 / 7.0), "{pim:#}");
    stage.operate("shop", "resync");
    stage.settles("shop");
    let flow = stage.channel("shop")["flow"].clone();
    assert_eq!(
        (&flow["changes"], &flow["unasked"]),
        (&json!(11), &json!(2)),
        "{flow:#}"
    );
    let url = format!("http://{}", stage.weir().address());
    let shown = command(stage.folder(), &["channel", "show", "shop", "--url", &url]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(": 11; coalesced "), "{shown}");
    assert!(shown.contains("without a change: 2"), "{shown}");
    let sources = command(stage.folder(), &["source", "list", "--url", &url]);
    assert!(String::from_utf8_lossy(&sources.stdout).contains("0.86"));
}

// Counts that began again at 0 beside one that was stored showed less than nothing.
#[test]
fn after_a_restart_what_became_of_changes_adds_up() {
    let mut stage = Stage::catalog();
    stage.operate("shop", "pause");
    for value in 1..=3 {
        let changes = ["lamp", "desk"].map(|key| change(key, "content", json!(value)));
        stage.takes("pim", &changes);
    }
    let since = stage.channel("shop")["flow"]["since"].clone();
    stage.stop();
    stage.start();
    let adds_up = |stage: &Stage| {
        let flow = stage.channel("shop")["flow"].clone();
        let count = |name: &str| flow[name].as_u64().expect("a number");
        let became = [
            "coalesced",
            "suppressed",
            "withheld",
            "withdrawn",
            "refused",
            "counted",
            "delivered",
        ];
        let became: u64 = became.map(count).iter().sum();
        let (changes, owed) = (count("changes"), count("owed"));
        assert!(became <= changes && changes <= became + owed, "{flow:#}");
        flow
    };
    let flow = adds_up(&stage);
    assert_eq!(flow["changes"], 0, "{flow:#}");
    assert!(
        flow["since"].as_str() > since.as_str(),
        "{flow:#} since {since}"
    );
    stage.takes("pim", &[change("lamp", "content", json!(4))]);
    adds_up(&stage);
    stage.operate("shop", "resume");
    stage.settles("shop");
    let flow = adds_up(&stage);
    assert_eq!(
        (&flow["changes"], &flow["owed"]),
        (&json!(1), &json!(0)),
        "{flow:#}"
    );
}

#[test]
fn an_entity_shows_its_way_from_the_event_to_the_answer() {
    let stage = Stage::catalog();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let event = json!({
        "specversion": "1.0", "id": "e1", "source": "/pim", "type": "changed",
        "traceparent": format!("00-{trace}-b7ad6b7169203331-01"),
        "data": change("lamp", "content", json!(1)),
    });
    let head = [("content-type", "application/cloudevents+json")];
    let taken = stage.send("pim", &head, event.to_string().as_bytes());
    assert_eq!(taken.status, 202, "{}", taken.text());
    stage.stands("lamp", "shop", "delivered");
    let entity = stage.entity("lamp");
    let way = entity["way"].as_array().expect("a list");
    let steps: Vec<_> = way
        .iter()
        .map(|step| step["step"].as_str().expect("a word"))
        .collect();
    assert_eq!(steps, ["accepted", "sent", "ended"], "{entity:#}");
    let [accepted, sent, ended] = &way[..] else {
        unreachable!()
    };
    assert_eq!(
        (&accepted["source"], &accepted["trace"]),
        (&json!("pim"), &json!(trace)),
        "{entity:#}"
    );
    assert_eq!(
        accepted["sequence"], entity["facets"][0]["sequence"],
        "{entity:#}"
    );
    let delivery = stage.shop.of("lamp").remove(0);
    let parent = delivery.header("traceparent").expect("a trace");
    assert_eq!(
        parent.split('-').nth(1),
        sent["trace"].as_str(),
        "{entity:#}"
    );
    assert_eq!(sent["trace"], ended["trace"], "{entity:#}");
    assert_eq!(
        (&ended["channel"], &ended["result"]),
        (&json!("shop"), &json!("delivered")),
        "{entity:#}"
    );
    assert_eq!(json!(delivery.sequence()), ended["sequence"], "{entity:#}");
    let times = [
        &ended["met"],
        &ended["rendered"],
        &sent["time"],
        &ended["time"],
    ];
    let times = times.map(|time| time.as_str().expect("a time"));
    assert!(times.is_sorted(), "{entity:#}");
    let url = format!("http://{}", stage.weir().address());
    let show = command(stage.folder(), &["show", "product/lamp", "--url", &url]);
    let show = String::from_utf8_lossy(&show.stdout).into_owned();
    assert!(
        show.contains(trace) && show.contains("delivered  shop"),
        "{show}"
    );
    // The same value again changes nothing, and what has the same rendering is not sent.
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    stage.operate("shop", "rerender");
    stage.settles("shop");
    let way = stage.entity("lamp")["way"].clone();
    assert_eq!(way.as_array().map(Vec::len), Some(4), "{way:#}");
    assert_eq!(way[3]["result"], "suppressed", "{way:#}");
}

#[test]
fn what_would_be_delivered_is_shown_beside_what_was() {
    let stage = Stage::catalog();
    stage.takes("pim", &[change("lamp", "content", json!(1.10))]);
    stage.settles("shop");
    let preview = || {
        stage
            .weir()
            .get("/v1/channels/shop/preview?key=lamp")
            .json()
    };
    let body = |rendering: &Value| rendering["body"].as_str().map(str::to_owned);
    let shown = preview();
    assert_eq!(shown["same"], true, "{shown:#}");
    assert_eq!(
        body(&shown["delivered"]),
        body(&shown["rendering"]),
        "{shown:#}"
    );
    stage.operate("shop", "pause");
    stage.takes("pim", &[change("lamp", "content", json!(2))]);
    let shown = preview();
    assert_eq!(shown["same"], false, "{shown:#}");
    let (now, before) = (body(&shown["rendering"]), body(&shown["delivered"]));
    assert!(
        now.is_some_and(|now| now.contains("\"content\":2")),
        "{shown:#}"
    );
    assert!(
        before.is_some_and(|before| before.contains("\"content\":1.1")),
        "{shown:#}"
    );
    // Without memory for bodies only the digest is known.
    let path = stage.folder().join("weir.toml");
    let config = std::fs::read_to_string(&path).expect("it is there");
    let without = config.replace("[server]\n", "[server]\nbodies = \"0B\"\n");
    std::fs::write(&path, without).expect("written");
    let reloaded = stage.reload_files();
    assert_eq!(reloaded["success"], true, "{reloaded:#}");
    let shown = preview();
    assert_eq!(
        (&shown["same"], &shown["delivered"]),
        (&json!(false), &Value::Null),
        "{shown:#}"
    );
}

// `increase()` missed the first failure of a channel, because its series was born with it, at 1.
#[test]
fn each_result_is_in_the_metrics_from_the_start_and_promtool_reads_them() {
    let stage = Stage::catalog();
    let metrics = stage.weir().get("/metrics").text();
    let has = |series: String| {
        let is_there = metrics.lines().any(|line| line == format!("{series} 0"));
        assert!(is_there, "no {series} in {metrics}");
    };
    for result in [
        "delivered",
        "withdrawn",
        "suppressed",
        "withheld",
        "counted",
        "parked",
        "held",
        "refused",
    ] {
        has(format!(
            "weir_deliveries_total{{channel=\"shop\",result=\"{result}\"}}"
        ));
    }
    for result in [
        "accepted",
        "filtered",
        "quarantined",
        "repeated",
        "malformed",
    ] {
        has(format!(
            "weir_events_total{{source=\"erp\",result=\"{result}\"}}"
        ));
    }
    for result in ["committed", "unchanged", "stale"] {
        has(format!(
            "weir_changes_total{{source=\"erp\",result=\"{result}\"}}"
        ));
    }
    for status in ["202", "400", "429", "503"] {
        has(format!(
            "weir_ingest_requests_total{{source=\"erp\",status=\"{status}\"}}"
        ));
    }
    let Some(promtool) = part("promtool", "what Prometheus says of the metrics") else {
        return;
    };
    let file = stage.place("metrics", metrics.as_bytes());
    let checked = std::process::Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(file).expect("it is there"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        checked.status.success() && said.is_empty(),
        "{said}\n{metrics}"
    );
}
