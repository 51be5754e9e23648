//! The bounds on memory, measured with an allocator that counts.
//!
//! Each story starts Weir as a process of its own and asks how many bytes were allocated at most while
//! something happened. This program is that process too: it contains Weir, like the product, but with
//! the counting allocator. Only the heap is counted. Memory of Wasm instances and compiled code is
//! mapped and bounded elsewhere (`plugin/pool.rs` counts it), and so are stacks and the page cache.
//!
//! The stories run one after the other. The arguments are those of other tests: words that the names of
//! stories contain, and `--exact`.

mod amplifying;
mod channels;
mod counting;
mod requests;
// The journeys use the rest of it.
#[allow(dead_code, unused_imports)]
#[path = "../support/mod.rs"]
mod support;

use std::panic::catch_unwind;
use std::process::{Command, ExitCode};

use crate::counting::{Counting, Counts};
use crate::support::Stage;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The product's commands that are started as processes of their own.
const PRODUCT_COMMANDS: [&str; 2] = ["run", "compile"];
/// The variable with the path of the socket at which a process tells its counts.
const SOCKET: &str = "WEIR_COUNTS";

/// Names and functions of stories.
macro_rules! stories {
    ($($module:ident::$story:ident),* $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($story)), $module::$story as fn())),*]
    };
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(first) = arguments.first()
        && PRODUCT_COMMANDS.contains(&first.as_str())
    {
        if let Some(socket) = std::env::var_os(SOCKET) {
            counting::serve(socket.as_ref()).expect("the counts can be asked for");
        }
        return weir::cli::run(std::env::args_os());
    }
    let stories = stories![
        requests::bodies_that_are_announced_and_not_sent_cost_nothing,
        requests::a_request_is_bounded_however_much_a_mapper_makes_of_it,
        requests::a_request_is_bounded_though_its_mapper_fails_on_batches,
        requests::members_are_counted_before_they_are_collected,
        requests::large_events_in_quarantine_are_shown_and_redriven_a_few_at_a_time,
        channels::large_entities_go_one_at_a_time,
        channels::large_renderings_for_a_slow_target_are_few_at_a_time,
        channels::renderings_that_become_much_larger_keep_within_the_memory_of_the_channel,
        channels::small_entities_may_be_many_in_a_request,
    ];
    run(&stories, &arguments)
}

/// Runs the stories that the arguments choose.
fn run(stories: &[(&str, fn())], arguments: &[String]) -> ExitCode {
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let words: Vec<&String> = (arguments.iter())
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let chosen: Vec<_> = stories
        .iter()
        .filter(|(name, _)| {
            let fits = |word: &&String| name == word || (!exact && name.contains(word.as_str()));
            words.is_empty() || words.iter().any(fits)
        })
        .collect();
    println!(
        "running {} test{}",
        chosen.len(),
        if chosen.len() == 1 { "" } else { "s" }
    );
    let mut failed = 0;
    for (name, story) in chosen {
        let passed = catch_unwind(story).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    match failed {
        0 => ExitCode::SUCCESS,
        failed => {
            println!("{failed} failed");
            ExitCode::FAILURE
        }
    }
}

/// A Weir whose allocations are counted.
struct Counted {
    stage: Stage,
    counts: Counts,
}

impl Counted {
    /// Starts Weir on a stage that is set.
    fn start(mut stage: Stage) -> Counted {
        let program = std::env::current_exe().expect("the path of this program");
        let socket = stage.folder().join("counts");
        let mut command = Command::new(program);
        command.env(SOCKET, &socket);
        stage.start_by(command);
        Counted {
            stage,
            counts: Counts::of(socket),
        }
    }

    /// The most MiB that were allocated while this was done, beyond those that were allocated before.
    #[track_caller]
    fn costs_at_most(&self, what: &str, most_mib: usize, work: impl FnOnce(&Stage)) {
        self.counts.peak();
        let before = self.counts.live();
        work(&self.stage);
        let cost = self.counts.peak().saturating_sub(before) >> 20;
        println!("{what}: {cost} MiB of {most_mib}");
        assert!(
            cost <= most_mib,
            "{what}: {cost} MiB, at most {most_mib} are right"
        );
    }
}
