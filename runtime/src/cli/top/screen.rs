//! Draws the board, on a screen of any size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row as Shown, Table, TableState, Wrap};

use super::board::{Board, CHANNEL, Row, SOURCE, Wrong};

/// The widths of the columns of channels but the first. With a name of 17 they fill 80 columns.
const CHANNEL_WIDTHS: [u16; 8] = [9, 6, 6, 6, 6, 6, 6, 6];
/// The widths of the columns of sources but the first.
const SOURCE_WIDTHS: [u16; 4] = [11, 9, 11, 11];
/// The width of a first column at least.
const NAME_WIDTH_MIN: u16 = 8;
/// From this width on, the notes are in the table.
const WIDE: u16 = 110;

pub(super) fn draw(frame: &mut Frame<'_>, board: &mut Board) {
    let sources = (board.sources.len() as u16 + 1).min(frame.area().height / 3);
    let [head, channels, sources, note, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(sources),
        Constraint::Length(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let (title, style) = match &board.lost {
        None => (board.summary(), Style::new().add_modifier(Modifier::BOLD)),
        Some(why) => {
            let age = board.seen.map_or(0, |seen| seen.elapsed().as_secs());
            (format!("{age} s old: {why}"), Style::new().fg(Color::Red))
        }
    };
    frame.render_widget(Line::styled(title, style), head);
    let mut state = TableState::new().with_selected(Some(board.selected));
    let is_wide = channels.width >= WIDE;
    let mut table = table(&board.channels, &CHANNEL, &CHANNEL_WIDTHS, is_wide);
    table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, channels, &mut state);
    frame.render_widget(
        self::table(&board.sources, &SOURCE, &SOURCE_WIDTHS, false),
        sources,
    );
    frame.render_widget(selected(board, note), note);
    frame.render_widget(Line::from("q ends · ↑ ↓ select a channel"), keys);
}

/// What there is to say of the channel that is selected.
fn selected(board: &Board, area: Rect) -> Paragraph<'_> {
    let row = board.channels.get(board.selected);
    let text = row.map(|row| match row.note.as_str() {
        "" => format!("{}: nothing to say", row.name),
        note => format!("{}: {note}", row.name),
    });
    let text = text.unwrap_or_default();
    let most = usize::from(area.width) * usize::from(area.height);
    let text: String = text.chars().take(most).collect();
    Paragraph::new(text).wrap(Wrap { trim: true })
}

fn table<'a>(rows: &'a [Row], names: &[&'a str], widths: &[u16], is_wide: bool) -> Table<'a> {
    let shown = rows.iter().map(|row| {
        let mut cells = vec![Cell::from(row.name.as_str())];
        cells.extend(row.cells.iter().map(|cell| Cell::from(cell.as_str())));
        cells.extend(is_wide.then(|| Cell::from(row.note.as_str())));
        Shown::new(cells).style(style(row.wrong))
    });
    let mut constraints = vec![match is_wide {
        true => Constraint::Length(24),
        false => Constraint::Min(NAME_WIDTH_MIN),
    }];
    constraints.extend(widths.iter().map(|width| Constraint::Length(*width)));
    constraints.extend(is_wide.then_some(Constraint::Min(0)));
    let mut names: Vec<&str> = names.to_vec();
    names.extend(is_wide.then_some("NOTE"));
    let header = Shown::new(names).style(Style::new().add_modifier(Modifier::UNDERLINED));
    Table::new(shown, constraints).header(header)
}

/// The word of the state says it too.
fn style(wrong: Wrong) -> Style {
    match wrong {
        Wrong::Gone => Style::new().add_modifier(Modifier::DIM),
        Wrong::No => Style::new(),
        Wrong::Some => Style::new().fg(Color::Cyan),
        Wrong::Late => Style::new().fg(Color::Yellow),
        Wrong::Stopped => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}
