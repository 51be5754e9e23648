//! `weir init`: the files of an example that comes with the program, in a folder, and the commands with which
//! it runs.
//!
//! It asks only on a terminal, and only for what is not said. A file that is there is never written: then
//! nothing is.

mod examples;

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use self::examples::{EXAMPLES, Example};
use super::table::plain;
use super::{CommandResult, Failure};
use crate::config::text::suggestion;

/// Arguments of `weir init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// The folder, which is made if it is missing
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// The example to begin with: first-webhook or no-code. If omitted, a terminal is asked
    #[arg(long, value_name = "EXAMPLE")]
    from: Option<String>,
}

pub(super) fn init(args: &InitArgs, out: &mut String) -> CommandResult {
    let example = match &args.from {
        Some(name) => named(name)?,
        // The question goes to standard error, so that both must be a terminal.
        None if io::stdin().is_terminal() && io::stderr().is_terminal() => {
            asked(&mut io::stdin().lock(), &mut io::stderr())?
        }
        None => {
            return Err(Failure::Usage(format!(
                "nobody is asked without a terminal; say which example to begin with: weir init --from {}",
                names().join("|")
            )));
        }
    };
    if let Some(missing) = example.missing() {
        return Err(Failure::Failed(format!(
            "the example {} needs a plugin that is not there: {}. Build it in a clone of the repository (`weir plugin build plugins/NAME`), or begin with --from first-webhook",
            example.name,
            missing.display()
        )));
    }
    write_all(example, &args.folder)?;
    out.push_str(&last_words(example, &args.folder));
    Ok(true)
}

fn names() -> Vec<&'static str> {
    EXAMPLES.iter().map(|example| example.name).collect()
}

fn named(name: &str) -> Result<&'static Example, Failure> {
    let found = EXAMPLES.iter().find(|example| example.name == name);
    found.ok_or_else(|| {
        let help = suggestion(name, names());
        let help = help.unwrap_or_else(|| format!("available: {}", names().join(", ")));
        Failure::Usage(plain(&format!("there is no example {name:?}; {help}")))
    })
}

/// Asks which example until the answer is one, by its number or its name.
fn asked(answers: &mut impl BufRead, screen: &mut impl Write) -> Result<&'static Example, Failure> {
    let cannot = |error: io::Error| Failure::Unreachable(format!("the terminal: {error}"));
    for (number, Example { name, what, .. }) in (1..).zip(&EXAMPLES) {
        writeln!(screen, "  {number}  {name:<14} {what}").map_err(cannot)?;
    }
    loop {
        write!(screen, "Which example, by its number or name? [1] ").map_err(cannot)?;
        screen.flush().map_err(cannot)?;
        let mut answer = String::new();
        if answers.read_line(&mut answer).map_err(cannot)? == 0 {
            return Err(Failure::Failed(
                "nothing was chosen, and nothing is written".to_owned(),
            ));
        }
        let answer = match answer.trim() {
            "" => "1",
            answer => answer,
        };
        let by_number = answer.parse::<usize>().ok();
        let by_number = by_number.and_then(|number| EXAMPLES.get(number.checked_sub(1)?));
        match by_number.map_or_else(|| named(answer), Ok) {
            Ok(example) => return Ok(example),
            Err(failure) => writeln!(screen, "{failure}").map_err(cannot)?,
        }
    }
}

/// Writes the files of an example: all of them or none.
fn write_all(example: &Example, folder: &Path) -> Result<(), Failure> {
    let paths = example.files.iter().map(|(name, _)| folder.join(name));
    // Also a link that leads nowhere is there.
    let taken: Vec<String> = paths
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if !taken.is_empty() {
        return Err(Failure::Failed(plain(&format!(
            "nothing is written, because there is already {}; name another folder: weir init --from {} FOLDER",
            taken.join(", "),
            example.name
        ))));
    }
    let mut written = Vec::new();
    for (name, content) in example.files {
        let path = folder.join(name);
        if let Err(error) = write_new(&path, content, &mut written) {
            // What could not be written whole is of no use.
            written
                .iter()
                .for_each(|path| drop(std::fs::remove_file(path)));
            return Err(Failure::Unreachable(plain(&format!(
                "{} cannot be written: {error}; nothing is kept of the others",
                path.display()
            ))));
        }
    }
    Ok(())
}

/// Writes a file that must not be there yet, and adds it to those that were begun.
fn write_new(path: &Path, content: &str, written: &mut Vec<PathBuf>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = File::create_new(path)?;
    written.push(path.to_owned());
    file.write_all(content.as_bytes())
}

/// What was written, and what to do next.
fn last_words(example: &Example, folder: &Path) -> String {
    let files: Vec<&str> = example.files.iter().map(|(name, _)| *name).collect();
    let here = folder == Path::new(".");
    let place = plain(&folder.display().to_string());
    let at = if here {
        "here".to_owned()
    } else {
        format!("in {place}")
    };
    let mut text = format!(
        "Written {at}: {}.\n\n{}\n\n",
        files.join(", "),
        example.story
    );
    let enter = (!here).then(|| format!("cd {}", quoted(&place)));
    for (command, what) in example.start {
        let command = enter.iter().map(String::as_str).chain([command]);
        let command = command.collect::<Vec<_>>().join(" && ");
        text.push_str(&format!("    {command:<28} # {what}\n"));
    }
    text.push_str("\nThen, in a third one:\n\n");
    for command in enter
        .iter()
        .map(String::as_str)
        .chain(example.send.iter().copied())
    {
        text.push_str(&format!("    {command}\n"));
    }
    text
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "/._-+".contains(character);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests;
