//! `weir top`: all channels and sources on one screen, what is wrong first, until `q`.
//!
//! It looks every two seconds. Whatever ends it (a key, a signal, an error, a panic) gives the terminal back as it
//! was. Without a terminal it prints one screen and ends.

mod board;
mod screen;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::json;
use tokio::sync::mpsc;

use self::board::Board;
use super::client::{Client, Remote, pretty};
use super::{CommandResult, Failure, ended};
use crate::server::views::{ChannelView, SourceView};

/// How often it looks.
const LOOK: Duration = Duration::from_secs(2);
/// How often the thread that reads keys looks whether it is still wanted.
const KEY_WAIT: Duration = Duration::from_millis(200);

/// Arguments of `weir top`.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    remote: Remote,
}

/// What Weir says of its channels and sources.
struct Look {
    channels: Vec<ChannelView>,
    sources: Vec<SourceView>,
    at: Instant,
}

impl Look {
    async fn at(client: &Client) -> Result<Look, Failure> {
        let channels = client.list("/v1/channels", &[], usize::MAX).await?.items;
        let sources = client.list("/v1/sources", &[], usize::MAX).await?.items;
        Ok(Look {
            channels,
            sources,
            at: Instant::now(),
        })
    }
}

pub(super) async fn run(args: TopArgs, out: &mut String) -> CommandResult {
    let client = Client::new(&args.remote)?;
    // What is wrong with the address or the token is said before the screen is taken.
    let first = Look::at(&client).await?;
    if args.remote.json {
        out.push_str(&pretty(
            &json!({ "channels": first.channels, "sources": first.sources }),
        ));
        return Ok(true);
    }
    let mut board = Board::default();
    board.become_look(first);
    if !std::io::stdout().is_terminal() {
        out.push_str(&board.as_text());
        return Ok(true);
    }
    let cannot = |error: std::io::Error| Failure::Failed(format!("the terminal: {error}"));
    // A panic restores it too.
    let terminal = ratatui::try_init().map_err(|error| {
        ratatui::restore();
        cannot(error)
    })?;
    let _restored = Restored;
    watch(&client, board, terminal).await.map_err(cannot)?;
    Ok(true)
}

/// Gives the terminal back when it is dropped.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn watch(
    client: &Client,
    mut board: Board,
    mut terminal: DefaultTerminal,
) -> std::io::Result<()> {
    let mut keys = Keys::start();
    let mut ended = Box::pin(ended());
    let look = || {
        Box::pin(async {
            tokio::time::sleep(LOOK).await;
            Look::at(client).await
        })
    };
    let mut next = look();
    loop {
        terminal.draw(|frame| screen::draw(frame, &mut board))?;
        tokio::select! {
            () = &mut ended => return Ok(()),
            seen = &mut next => {
                match seen {
                    Ok(seen) => board.become_look(seen),
                    Err(failure) => board.lost(&failure.to_string()),
                }
                next = look();
            }
            happened = keys.events.recv() => match happened {
                // The terminal has gone.
                None => return Ok(()),
                Some(Event::Key(key)) if key.kind == KeyEventKind::Release => {}
                Some(Event::Key(key)) => {
                    let control = key.modifiers.contains(KeyModifiers::CONTROL);
                    match key.code {
                        KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                        KeyCode::Char('c') if control => return Ok(()),
                        KeyCode::Up | KeyCode::Char('k') => board.select(-1),
                        KeyCode::Down | KeyCode::Char('j') => board.select(1),
                        KeyCode::PageUp => board.select(-10),
                        KeyCode::PageDown => board.select(10),
                        _ => {}
                    }
                }
                // After a change of its size it is drawn anew.
                Some(_) => {}
            },
        }
    }
}

/// The events of the terminal, read on a thread of its own.
struct Keys {
    events: mpsc::Receiver<Event>,
    is_over: Arc<AtomicBool>,
}

impl Keys {
    fn start() -> Keys {
        let (events, received) = mpsc::channel(64);
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = is_over.clone();
        std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let read = match event::poll(KEY_WAIT) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let Ok(event) = read else { return };
                if events.blocking_send(event).is_err() {
                    return;
                }
            }
        });
        Keys {
            events: received,
            is_over,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
