//! Terminals in which commands run as long as the story lasts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::readme::{Block, fits};
use crate::{PATIENCE, PAUSE};

/// Terminals by name. Their commands end when this is dropped.
#[derive(Default)]
pub(crate) struct Terminals(BTreeMap<String, Terminal>);

struct Terminal {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// The number of lines that the story has passed.
    seen: usize,
}

impl Terminals {
    pub(crate) fn start(&mut self, name: &str, mut command: Command) {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (printed, stdout) = (lines.clone(), child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                printed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        assert!(
            self.0
                .insert(
                    name.to_owned(),
                    Terminal {
                        child,
                        lines,
                        seen: 0
                    }
                )
                .is_none(),
            "the terminal {name} is in use"
        );
    }

    /// Waits until each of these lines has been printed since the last call, in any order.
    pub(crate) fn expect(&mut self, name: &str, block: &Block) {
        let terminal = self
            .0
            .get_mut(name)
            .unwrap_or_else(|| panic!("line {}: there is no terminal {name}", block.line));
        let until = Instant::now() + PATIENCE;
        for shown in block.text.lines() {
            let wanted = |line: &String| fits(shown, line);
            while !terminal.printed()[terminal.seen..].iter().any(wanted) {
                let printed = terminal.printed()[terminal.seen..].join("\n");
                assert!(
                    Instant::now() < until,
                    "line {}: {name} does not print\n  {shown}\nprinted:\n{printed}",
                    block.line
                );
                std::thread::sleep(PAUSE);
            }
        }
        let printed = terminal.printed();
        let last = printed
            .iter()
            .rposition(|line| block.text.lines().any(|shown| fits(shown, line)));
        terminal.seen = last.map_or(terminal.seen, |last| last + 1);
    }

    /// Everything that a terminal has printed.
    pub(crate) fn output(&self, name: &str) -> String {
        self.0
            .get(name)
            .map(|terminal| terminal.printed().join("\n"))
            .unwrap_or_default()
    }
}

impl Terminal {
    fn printed(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If it has ended by itself, there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
