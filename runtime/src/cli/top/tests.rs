//! What is on the screen of `weir top`.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::board::{count, seconds};
use super::*;
use crate::server::views::{LaneLatencyView, LatencyView, OwedView};

fn channel(name: &str, state: &str) -> ChannelView {
    ChannelView {
        name: name.into(),
        state: state.into(),
        ..ChannelView::default()
    }
}

fn source(name: &str) -> SourceView {
    serde_json::from_value(json!({
        "name": name, "owner": "erp", "plugins": [], "verify": "none", "silent": false,
        "last_event": "2026-11-18T11:06:40.120Z", "events_per_second": 12.5,
        "events": { "accepted": 0, "filtered": 0, "quarantined": 0, "repeated": 0 },
        "changes": { "committed": 0, "unchanged": 0, "stale": 0 },
        "since": "2026-11-18T11:00:00.000Z", "quarantined": 3,
    }))
    .expect("a source")
}

fn board(channels: Vec<ChannelView>) -> Board {
    let mut board = Board::default();
    board.become_look(Look {
        channels,
        sources: vec![source("erp")],
        at: Instant::now(),
    });
    board
}

/// The lines of a screen.
fn drawn(board: &mut Board, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal
        .draw(|frame| screen::draw(frame, board))
        .expect("it draws");
    let buffer = terminal.backend().buffer();
    let line = |y: u16| -> String {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // A wide character covers the cell behind it.
            x += unicode_cells(symbol);
        }
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

fn unicode_cells(symbol: &str) -> u16 {
    ratatui::text::Span::raw(symbol).width().max(1) as u16
}

fn some_channels() -> Vec<ChannelView> {
    let minute = LatencyView {
        count: 9,
        p99_ms: Some(450),
        ..LatencyView::default()
    };
    let mut shop = channel("storefront.de", "flowing");
    shop.owed = OwedView {
        urgent: 1,
        normal: 20_000,
        bulk: 1_500_000,
        total: 1_520_001,
        ..OwedView::default()
    };
    shop.latency.normal = LaneLatencyView {
        minute,
        ..LaneLatencyView::default()
    };
    let late = ChannelView {
        freshness_seconds: 130.0,
        overdue_seconds: 130.0,
        freshness_objective_seconds: Some(60.0),
        ..channel("search", "flowing")
    };
    let tripped = ChannelView {
        reason: Some("no connection to 127.0.0.1:9: connection refused".into()),
        parked: 7,
        ..channel("storefront.fr", "tripped")
    };
    let refused = ChannelView {
        refused: 2,
        ..channel("feed", "flowing")
    };
    vec![channel("old", "retired"), shop, late, refused, tripped]
}

#[test]
fn what_is_wrong_comes_first_on_80_by_24() {
    let mut board = board(some_channels());
    let lines = drawn(&mut board, 80, 24);
    let expected = [
        "5 channels · 1 stopped · 1 late or waiting · 1 with something set aside · 1 sour",
        "CHANNEL               STATE     URGENT NORMAL BULK   FRESH  WITHIN SENT/S P99",
        "storefront.fr         tripped   0      0      0      0s     -      -      -",
        "search                late      0      0      0      130s   60s    -      -",
    ];
    assert_eq!(lines[..2], expected[..2]);
    assert_eq!(lines[2], expected[2]);
    assert_eq!(lines[3], expected[3].replace("130s", "2m  "));
    assert!(
        lines[4].starts_with("feed                  refused"),
        "{lines:#?}"
    );
    assert_eq!(
        lines[5],
        "storefront.de         flowing   1      20k    1M     0s     -      -      0.5s"
    );
    assert!(
        lines[6].starts_with("old                   retired"),
        "{lines:#?}"
    );
    let text = lines.join("\n");
    assert!(
        text.contains("storefront.fr: 7 parked; no connection to 127.0.0.1:9"),
        "{text}"
    );
    let erp = lines
        .iter()
        .find(|line| line.starts_with("erp "))
        .expect("the source");
    assert!(
        erp.contains(" 13 ") && erp.contains("11:06:40") && erp.contains('3'),
        "{erp}"
    );
    assert!(lines[23].starts_with("q ends"), "{lines:#?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80));
}

#[test]
fn a_rate_is_known_after_the_second_look_and_the_selection_follows_its_channel() {
    let mut board = board(some_channels());
    board.select(3);
    assert_eq!(board.channels[board.selected].name, "storefront.de");
    let begin = board.seen.expect("it was looked");
    let mut channels = some_channels();
    channels[1].deliveries.insert("delivered".into(), 50);
    channels[1].state = "ahead".into();
    channels[1].overdue_seconds = 1e6;
    board.become_look(Look {
        channels,
        sources: Vec::new(),
        at: begin + Duration::from_secs(2),
    });
    assert_eq!(
        (board.selected, &*board.channels[0].name),
        (0, "storefront.de")
    );
    assert_eq!(board.channels[0].cells[6], "25");
    assert_eq!(board.channels[1].cells[6], "0.0");
    board.select(-1);
    board.select(100);
    assert_eq!(board.selected, 4);
}

#[test]
fn any_size_is_drawn() {
    let mut board = board(some_channels());
    board.lost("could not reach it");
    for (width, height) in [
        (1, 1),
        (3, 2),
        (20, 3),
        (40, 10),
        (80, 24),
        (200, 60),
        (500, 5),
    ] {
        let lines = drawn(&mut board, width, height);
        assert_eq!(lines.len(), usize::from(height));
    }
    let wide = drawn(&mut board, 200, 60).join("\n");
    assert!(wide.contains("NOTE"), "{wide}");
    assert!(wide.contains("s old: could not reach it"), "{wide}");
}

// A name with an escape sequence cleared the screen, and one with a variation selector moved the rest of its
// row by a column.
#[test]
fn hostile_and_wide_names_leave_their_row_alone() {
    let names = [
        "\u{1b}[2Jx",
        "a\u{202e}b",
        "灯🪔",
        "❤\u{fe0f}",
        "👍\u{1f3fb}",
        "e\u{301}",
    ];
    let channels = names.iter().map(|name| channel(name, "flowing")).collect();
    let mut board = board(channels);
    let lines = drawn(&mut board, 80, 24);
    let rows: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("flowing"))
        .collect();
    assert_eq!(rows.len(), names.len());
    for row in rows {
        let (name, _) = row.split_once("flowing").expect("a state");
        assert_eq!(unicode_cells(name), 22, "{row}");
        assert!(
            !row.contains(['\u{1b}', '\u{202e}', '\u{fe0f}', '\u{1f3fb}']),
            "{row:?}"
        );
    }
    assert!(lines.join("\n").contains("\\u001b[2Jx"), "{lines:#?}");
}

#[test]
fn numbers_and_times_are_short() {
    for (number, shown) in [
        (0, "0"),
        (9_999, "9999"),
        (10_000, "10k"),
        (2_345_678, "2M"),
        (u64::MAX, "18446744073G"),
    ] {
        assert_eq!(count(number), shown);
    }
    for (time, shown) in [
        (0.0, "0s"),
        (0.44, "0.4s"),
        (59.9, "59s"),
        (130.0, "2m"),
        (86_400.0, "24h"),
        (1e6, "11d"),
    ] {
        assert_eq!(seconds(time), shown);
    }
}

#[test]
fn without_a_terminal_it_is_a_text() {
    let text = board(some_channels()).as_text();
    assert!(text.starts_with("5 channels · 1 stopped"), "{text}");
    assert!(text.contains("7 parked; no connection"), "{text}");
    assert!(text.contains("LAST EVENT"), "{text}");
}
