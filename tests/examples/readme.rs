//! The fenced blocks of a README, and the comparison of an output with them.

/// A fenced block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    /// The line of the opening fence, from 1.
    pub(crate) line: usize,
}

/// The purpose of a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Commands to run to their end.
    Run,
    /// A command that keeps running in the terminal with this name.
    Start(String),
    /// Commands that only a reader needs.
    Setup,
    /// The output of the commands before it.
    Printed,
    /// Output of the terminal with this name.
    Seen(String),
}

impl Block {
    /// Whether the commands can be repeated without changing anything.
    pub(crate) fn only_looks(&self) -> bool {
        let looks = [
            "weir show ",
            "weir channel list",
            "weir channel entities ",
            "weir entity list ",
            "weir source list",
            "weir status",
            "weir quarantine list",
            "curl -s ",
            "cat ",
            "psql \"$DATABASE_URL\" -c \"SELECT ",
        ];
        self.text
            .lines()
            .all(|line| looks.iter().any(|look| line.starts_with(look)))
    }
}

/// All blocks with a fence `sh` or `text`.
pub(crate) fn blocks(readme: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(fence) = line.strip_prefix("```") else {
            continue;
        };
        let text: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .collect();
        let words: Vec<&str> = fence.split_whitespace().collect();
        let kind = match words[..] {
            ["sh"] => Kind::Run,
            ["sh", "setup"] => Kind::Setup,
            ["sh", terminal] => Kind::Start(name(terminal, at)),
            ["text"] => Kind::Printed,
            ["text", terminal] => Kind::Seen(name(terminal, at)),
            _ => continue,
        };
        blocks.push(Block {
            kind,
            text: text.join("\n"),
            line: at + 1,
        });
    }
    blocks
}

/// All blocks with a fence `toml`, one behind the other.
pub(crate) fn configuration(readme: &str) -> String {
    let blocks = readme.split("```toml\n").skip(1);
    blocks
        .filter_map(|rest| rest.split("```").next())
        .collect::<Vec<_>>()
        .join("\n")
}

fn name(word: &str, at: usize) -> String {
    word.strip_prefix("terminal=")
        .unwrap_or_else(|| panic!("line {}: {word:?} is not terminal=NAME", at + 1))
        .to_owned()
}

/// Whether an output is as shown; a line that is only `…` matches any number of lines.
pub(crate) fn same(shown: &str, output: &str) -> Result<(), String> {
    let shown: Vec<&str> = shown.trim_end().lines().collect();
    let output: Vec<&str> = output.trim_end().lines().collect();
    match differing(&shown, &output) {
        None => Ok(()),
        Some(line) => Err(format!(
            "the README shows\n  {line}\nbut that is not printed, or in another place"
        )),
    }
}

/// The first shown line that the output does not have in its place.
fn differing(shown: &[&str], output: &[&str]) -> Option<String> {
    match (shown, output) {
        ([], []) => None,
        ([], [line, ..]) => Some(format!("nothing more, while `{line}` is printed")),
        (["…", rest @ ..], _) => {
            let each: Vec<Option<String>> = (0..=output.len())
                .map(|skipped| differing(rest, &output[skipped..]))
                .collect();
            if each.contains(&None) {
                None
            } else {
                rest.first().map(|line| (*line).to_owned())
            }
        }
        ([line, shown @ ..], [printed, output @ ..]) if fits(line, printed) => {
            differing(shown, output)
        }
        ([line, ..], _) => Some((*line).to_owned()),
    }
}

/// Whether a printed line matches a shown one.
pub(crate) fn fits(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (plain(shown), plain(printed));
    let mut pieces = shown.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| printed.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for piece in pieces {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        last = Some(piece);
        rest = &rest[at + piece.len()..];
    }
    // The last piece must be at the end, even if it also occurs before.
    rest.is_empty() || last.is_some_and(|last| last.is_empty() || printed.ends_with(last))
}

/// A line without the parts that differ from run to run: times, also relative ones, versions of plugins, the
/// width of columns.
fn plain(line: &str) -> String {
    let word = |word: &str| match word {
        moment
            if moment.len() >= 20
                && moment.starts_with("20")
                && moment.contains('T')
                && moment.ends_with('Z') =>
        {
            "MOMENT".to_owned()
        }
        clock if is_clock(clock) => "MOMENT".to_owned(),
        word => match word.split_once('@') {
            Some((plugin, version))
                if version
                    .chars()
                    .take(12)
                    .filter(char::is_ascii_hexdigit)
                    .count()
                    == 12 =>
            {
                format!("{plugin}@VERSION{}", &version[12..])
            }
            _ => word.to_owned(),
        },
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut plain = Vec::new();
    let mut rest = words.as_slice();
    loop {
        rest = match rest {
            [] => return plain.join(" "),
            [number, "s" | "min" | "h" | "d", "ago", after @ ..] if is_number(number) => {
                plain.push("MOMENT".to_owned());
                after
            }
            ["now", after @ ..] => {
                plain.push("MOMENT".to_owned());
                after
            }
            [first, after @ ..] => {
                plain.push(word(first));
                after
            }
        };
    }
}

/// Whether a word is a time of the day, such as `09:38:00.478Z`.
fn is_clock(word: &str) -> bool {
    let shape = |letter: char| if letter.is_ascii_digit() { '0' } else { letter };
    word.chars().map(shape).eq("00:00:00.000Z".chars())
}

fn is_number(word: &str) -> bool {
    word.chars().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipsis_stands_for_anything_and_moments_are_not_compared() {
        for (shown, printed) in [
            ("sequence …", "sequence 17"),
            ("a … c … e", "a b c d c e"),
            (
                "2026-11-23T09:38:26.142Z  in-stock@7c1f924b7ff7, x",
                "2026-12-01T00:00:00.000Z in-stock@000000000000,  x",
            ),
            ("a…", "a"),
            ("since 3 min ago  x", "since  now x"),
            ("2 s ago", "2026-12-01T00:00:00.000Z"),
            ("09:38:00.478Z", "10:00:00.000Z"),
        ] {
            assert!(fits(shown, printed), "{shown} {printed}");
        }
        for (shown, printed) in [
            ("sequence …", "sequences"),
            ("a…c", "a b"),
            ("a…c", "a c d"),
            ("a", "a b"),
            ("@abc", "@abd"),
            ("x s ago", "now"),
        ] {
            assert!(!fits(shown, printed), "{shown} {printed}");
        }
    }

    #[test]
    fn a_line_that_is_missing_or_too_many_is_a_difference() {
        assert!(same("a\n…\nd\n", "a\nb\nc\nd\n").is_ok());
        assert!(same("a\n…", "a").is_ok());
        for (shown, printed) in [
            ("a\nb", "a"),
            ("a", "a\nb"),
            ("a\n…\nd", "a\nb"),
            ("…\na", "a\nb"),
        ] {
            assert!(same(shown, printed).is_err(), "{shown:?} {printed:?}");
        }
    }

    #[test]
    fn the_fence_decides_the_kind_of_a_block() {
        let blocks =
            blocks("# A\n```sh\nls\n```\n```toml\na = 1\n```\n```text terminal=shop\nx\ny\n```\n");
        let kinds: Vec<_> = blocks
            .iter()
            .map(|block| (&block.kind, block.text.as_str(), block.line))
            .collect();
        assert_eq!(
            kinds,
            [
                (&Kind::Run, "ls", 2),
                (&Kind::Seen("shop".into()), "x\ny", 8)
            ]
        );
    }
}
