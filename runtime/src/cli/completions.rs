//! `weir completions` and `weir man`: what a shell and `man` know of the commands, for people and for packages.
//!
//! Both are made of the definition of the commands, without the hidden ones. Completions are scripts that start no
//! program: they know the commands and options, not the names of channels.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, CommandResult, Failure};

/// Arguments of `weir completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Arguments of `weir man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// The folder, which is made if it is missing
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Prints a script for the shell.
pub(super) fn completions(args: &CompletionsArgs, out: &mut String) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(), "weir", &mut script);
    out.push_str(&String::from_utf8_lossy(&script));
    Ok(true)
}

/// Writes a page for each command.
pub(super) fn man(args: &ManArgs, out: &mut String) -> CommandResult {
    let cannot = |error: std::io::Error| {
        Failure::Unreachable(format!("cannot write {}: {error}", args.folder.display()))
    };
    std::fs::create_dir_all(&args.folder).map_err(cannot)?;
    // Which would have no page.
    let mut whole = shown().disable_help_subcommand(true);
    whole.build();
    let count = pages(&whole, &args.folder).map_err(cannot)?;
    out.push_str(&format!("{count} pages\n"));
    Ok(true)
}

/// Writes the page of a command and of all below it; returns how many there are.
fn pages(command: &Command, folder: &Path) -> std::io::Result<usize> {
    clap_mangen::Man::new(command.clone()).generate_to(folder)?;
    let inner = command.get_subcommands().map(|inner| pages(inner, folder));
    inner.sum::<std::io::Result<usize>>().map(|count| count + 1)
}

/// The definition of the commands without the hidden ones, which are of no use to people.
fn shown() -> Command {
    let whole = Cli::command();
    let seen = whole.get_subcommands().filter(|inner| !inner.is_hide_set());
    Command::new("weir")
        .version(env!("CARGO_PKG_VERSION"))
        .about(whole.get_about().cloned().unwrap_or_default())
        .after_help(whole.get_after_help().cloned().unwrap_or_default())
        .subcommands(seen.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(shell: Shell) -> String {
        let mut script = String::new();
        completions(&CompletionsArgs { shell }, &mut script).expect("a script");
        script
    }

    #[test]
    fn each_shell_gets_a_script_that_it_understands_and_that_knows_what_is_shown() {
        for (shell, program) in [
            (Shell::Bash, "bash"),
            (Shell::Zsh, "zsh"),
            (Shell::Fish, "fish"),
        ] {
            let script = script(shell);
            for command in [
                "quarantine",
                "reload",
                "reset-versions",
                "completions",
                "status",
                "init",
                "entities",
            ] {
                assert!(script.contains(command), "{shell}: {command}");
            }
            assert!(!script.contains("memory-bytes"), "{shell}: `weir compile`");
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("script");
            std::fs::write(&file, script).expect("written");
            // Each of them reads a script without running it.
            let read = std::process::Command::new(program)
                .arg("-n")
                .arg(&file)
                .output();
            match read {
                Ok(read) => assert!(
                    read.status.success() && read.stderr.is_empty(),
                    "{shell}: {}",
                    String::from_utf8_lossy(&read.stderr)
                ),
                Err(_) => eprintln!("NOT RUN: {program} is not installed"),
            }
        }
    }

    #[test]
    fn bash_completes_commands_and_options() {
        let ask = "complete=$(cat); eval \"$complete\"; COMP_WORDS=(weir channel re); COMP_CWORD=2; \
                   _weir weir re channel; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = std::process::Command::new("bash")
            .args(["--norc", "-c", ask])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("bash is there");
        std::io::Write::write_all(
            &mut bash.stdin.take().expect("piped"),
            script(Shell::Bash).as_bytes(),
        )
        .expect("written");
        let printed = bash.wait_with_output().expect("it ends").stdout;
        let printed = String::from_utf8_lossy(&printed);
        let words: Vec<&str> = printed.lines().collect();
        assert!(
            words.contains(&"resume") && words.iter().all(|word| word.starts_with("re")),
            "{words:?}"
        );
    }

    #[test]
    fn each_shown_command_has_a_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = ManArgs {
            folder: folder.path().join("man1"),
        };
        let mut out = String::new();
        man(&args, &mut out).expect("written");
        let text = |page: &str| {
            std::fs::read_to_string(args.folder.join(page))
                .unwrap_or_else(|error| panic!("{page}: {error}"))
        };
        assert!(
            text("weir.1").contains("weir\\-reload(1)"),
            "{}",
            text("weir.1")
        );
        assert!(text("weir-channel-list.1").contains("channel list"));
        assert!(text("weir-channel-entities.1").contains("withheld"));
        assert!(text("weir-config-schema.1").contains("JSON Schema"));
        assert!(text("weir-run.1").contains("log\\-format"));
        for hidden in [
            "weir-compile.1",
            "weir-man.1",
            "weir-help.1",
            "weir-channel-help.1",
        ] {
            assert!(!args.folder.join(hidden).exists(), "{hidden}");
        }
        let count = std::fs::read_dir(&args.folder).expect("a folder").count();
        assert_eq!(out, format!("{count} pages\n"));
    }
}
