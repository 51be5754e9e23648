//! Tests of the screen: what is wrong comes first and names its command, and all of it fits the screen.

use expect_test::expect;

use super::*;
use crate::model::Timestamp;
use crate::server::views::{ComplaintView, FeedView, HeldGenerationView};

/// Since 1970, so that the texts are the same on each day.
fn long_ago() -> Time {
    Timestamp(1).into()
}

fn look(channels: Vec<ChannelView>, sources: Vec<SourceView>) -> Look {
    Look {
        not_ready: Vec::new(),
        warnings: Vec::new(),
        configuration: Configuration::default(),
        channels,
        sources,
    }
}

fn channel(name: &str, state: &str) -> ChannelView {
    ChannelView {
        name: name.into(),
        state: state.into(),
        target: "shop".into(),
        ..ChannelView::default()
    }
}

fn source(name: &str) -> SourceView {
    SourceView {
        name: name.into(),
        ..SourceView::default()
    }
}

fn screen(look: &Look) -> String {
    look.as_text("http://127.0.0.1:7700", &troubles(look), WIDTH)
}

#[test]
fn a_weir_that_is_well_says_so_in_two_lines_and_two_tables() {
    let look = look(
        vec![channel("shop", "flowing"), channel("old", "retired")],
        vec![source("pim")],
    );
    assert!(troubles(&look).is_empty());
    expect![[r"
        Weir at http://127.0.0.1:7700.
        All is well.

        CHANNEL  STATE    OWED  FRESHNESS  OBJECTIVE  PARKED  REFUSED  HELD
        shop     flowing  0     0 s        -          0       0        0

        SOURCE  STATE  LAST EVENT  PER SECOND  QUARANTINED
        pim     -      -           -           0
    "]]
    .assert_eq(&screen(&look));
}

#[test]
fn each_trouble_is_a_sentence_with_the_command_that_helps_the_worst_first() {
    let mut tripped = channel("de", "tripped");
    tripped.reason = Some("the target answered 401: no such token".into());
    (tripped.owed.total, tripped.freshness_seconds) = (12, 190.0);
    let mut other = tripped.clone();
    other.name = "fr".into();
    let mut late = channel("search", "flowing");
    late.target = "engine".into();
    (late.overdue_seconds, late.freshness_objective_seconds) = (600.0, Some(60.0));
    late.refused = 1;
    let mut held = channel("at", "flowing");
    held.held = 3;
    let mut paused = channel("it", "paused");
    paused.reason = Some("by an operator".into());
    let mut feed = channel("google", "flowing");
    feed.feed = Some(FeedView {
        held: Some(HeldGenerationView {
            records: 7,
            before: 100,
        }),
        ..FeedView::default()
    });
    let mut ahead = channel("es", "ahead");
    ahead.target = "db".into();
    let mut silent = source("erp");
    (silent.silent, silent.quiet_seconds) = (true, Some(900.0));
    let mut kept = source("pim");
    kept.quarantined = 2;
    let mut look = look(
        vec![tripped, other, late, held, paused, feed, ahead],
        vec![silent, kept],
    );
    look.not_ready = vec!["the disk is full".into()];
    look.warnings = vec!["plugin map serves its earlier version".into()];
    look.configuration.files = vec!["/etc/weir/weir.toml".into()];
    look.configuration.last_reload = Some(ReloadView {
        time: long_ago(),
        complaints: vec![ComplaintView {
            what: "chanels: there is no such key".into(),
            ..ComplaintView::default()
        }],
        ..ReloadView::default()
    });
    let told: String = troubles(&look)
        .iter()
        .map(|trouble| {
            let sign = trouble.grave.sign();
            format!("{sign} {}\n    {}\n", trouble.text, trouble.help.join("; "))
        })
        .collect();
    expect![[r"
        x Weir takes no events: the disk is full.
            
        x Target db holds newer states than Weir has: channel es delivers nothing. If Weir is right, send everything over them:
            weir channel overwrite es
        x Target shop is tripped (the target answered 401: no such token): channels de and fr deliver nothing. Up to 24 entities are owed, the oldest change for 3 min.
            weir channel show de; weir check --connect
        x Channel at holds back 3 deletions, more than its withdraw_max. If they are right, confirm them.
            weir channel entities at --state held; weir channel confirm at
        x The feed of channel google would shrink from 100 records to 7, so the earlier one is served. If that is right, confirm it.
            weir channel confirm google
        ! plugin map serves its earlier version.
            weir plugin list
        ! The last reload was refused, in whole or for a plugin (1970-01-01, 1 mistake). The first: chanels: there is no such key.
            weir check -c /etc/weir/weir.toml
        ! Channel search is late: a change has been owed for 10 min, and its freshness is 1 min.
            weir channel show search
        ! Channel it is paused (by an operator). Nothing is owed.
            weir channel resume it
        ! Source erp is silent: no event has come since Weir started, and it is expected within 15 min. Look at the system that sends, and at what it is answered:
            weir tap erp
        - Channel search has 1 entity refused.
            weir channel entities search --state refused
        - Source pim has 2 events in quarantine.
            weir quarantine list pim
    "]]
    .assert_eq(&told);
    let screen = screen(&look);
    let longest = screen.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(WIDTH), "{screen}");
    assert!(
        screen.starts_with("Weir at http://127.0.0.1:7700.\nIt takes no events:\n\nx Weir takes")
    );
    // It is one screen.
    assert!(
        screen.contains("\nand 4 more: weir status --json\n"),
        "{screen}"
    );
}

#[test]
fn a_hundred_channels_are_one_screen_with_those_in_trouble_on_top() {
    let mut channels: Vec<_> = (0..108)
        .map(|number| channel(&format!("site.{number}"), "flowing"))
        .collect();
    channels[77].refused = 1;
    channels[99].owed.total = 5;
    let screen = screen(&look(channels, Vec::new()));
    assert!(screen.lines().count() < 40, "{screen}");
    let rows: Vec<&str> = screen
        .lines()
        .filter(|it| it.starts_with("site."))
        .collect();
    assert!(rows[0].starts_with("site.77 "), "{screen}");
    assert!(rows[1].starts_with("site.99 "), "{screen}");
    assert!(
        screen.contains("and 88 more: weir channel list"),
        "{screen}"
    );
}

#[test]
fn texts_of_others_do_not_command_the_terminal() {
    let mut tripped = channel("de", "tripped");
    tripped.reason = Some("answered \u{1b}[2J".into());
    let screen = screen(&look(vec![tripped], Vec::new()));
    assert!(!screen.contains('\u{1b}'), "{screen}");
}
