//! A channel that waits until an entity is quiet, from outside: what is shown of a wait, that it goes on
//! over a restart, and that an urgent change ends it.

use serde_json::json;

use crate::support::stage::CATALOG;
use crate::support::weir::command;
use crate::support::{Stage, change};

#[test]
fn an_entity_that_waits_to_be_quiet_says_so_and_waits_on_after_a_restart() {
    let config = CATALOG.to_owned() + "debounce = \"1h\"\nfreshness = \"1m\"\n";
    let mut stage = Stage::with(&config);
    stage.takes("pim", &[change("lamp", "content", json!("first"))]);
    let shown = |stage: &Stage| {
        let standing = stage.stands("lamp", "shop", "waiting");
        assert_eq!(standing["by"], "debounce", "{standing:#}");
        assert!(standing["next_attempt"].is_string(), "{standing:#}");
        let channel = stage.channel("shop");
        assert_eq!(channel["state"], "flowing", "{channel:#}");
        assert_eq!(channel["waiting"], 1, "{channel:#}");
        assert_eq!(channel["overdue_seconds"], 0.0, "{channel:#}");
        let url = format!("http://{}", stage.weir().address());
        let show = command(stage.folder(), &["show", "product/lamp", "--url", &url]);
        let show = String::from_utf8_lossy(&show.stdout).into_owned();
        assert!(show.contains("waiting for debounce"), "{show}");
        let metrics = stage.weir().get("/metrics").text();
        let waiting = "weir_waiting{channel=\"shop\",reason=\"debounce\"} 1\n";
        assert!(metrics.contains(waiting), "{metrics}");
        standing["next_attempt"].clone()
    };
    let until = shown(&stage);
    stage.stop();
    stage.start();
    assert_eq!(
        shown(&stage),
        until,
        "the wait goes on, and does not begin again"
    );
    assert_eq!(stage.shop.count(), 0);
    // Prices are urgent here.
    stage.takes("erp", &[change("lamp", "price.de", json!(5))]);
    stage.settles("shop");
    shop_has(&stage, "first");
    stage.stands("lamp", "shop", "delivered");
    stage.takes("pim", &[change("lamp", "content", json!("second"))]);
    stage.stands("lamp", "shop", "waiting");
    // Without the debounce, a reload sends what waited.
    stage.reload(CATALOG);
    stage.settles("shop");
    shop_has(&stage, "second");
}

#[test]
fn an_entity_of_a_lane_that_waits_for_its_hours_says_so() {
    let now = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .time();
    let later = |hours: i64| {
        now.wrapping_add(jiff::Span::new().hours(hours))
            .strftime("%H:%M")
    };
    let hours = format!(
        "hours = {{ bulk = \"{}-{}\", zone = \"UTC\" }}\n",
        later(2),
        later(3)
    );
    let config = CATALOG.replace("owner = \"pim\"", "owner = \"pim\", lane = \"bulk\"") + &hours;
    let stage = Stage::with(&config);
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    let standing = stage.stands("lamp", "shop", "waiting");
    let by = format!("hours of bulk, {}-{} UTC", later(2), later(3));
    assert_eq!(standing["by"], by, "{standing:#}");
    let metrics = stage.weir().get("/metrics").text();
    let waiting = "weir_waiting{channel=\"shop\",reason=\"hours\"} 1\n";
    assert!(metrics.contains(waiting), "{metrics}");
    let late = "weir_overdue_seconds{channel=\"shop\"} 0.0\n";
    assert!(metrics.contains(late), "{metrics}");
}

#[track_caller]
fn shop_has(stage: &Stage, content: &str) {
    let facets = json!({"content": content, "price.de": 5});
    stage.shop_holds(json!({"lamp": {"type": "product", "key": "lamp", "facets": facets}}));
}
