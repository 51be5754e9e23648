//! The cases of a file in the form of jq's own tests: program, input and outputs, each on a line, and a blank
//! line; after a line `%%FAIL`, a program that does not compile, and the message.

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The number of the program's line.
    pub line: usize,
    /// The program.
    pub program: String,
    /// Whether it does not compile.
    pub refused: bool,
    /// The input, empty for one that does not compile.
    pub input: String,
    /// The outputs.
    pub outputs: Vec<String>,
}

impl Case {
    /// Whether it asks for more memory than a machine may have, and so runs only where memory is limited.
    pub fn takes_gigabytes(&self) -> bool {
        self.program.contains("(. * 1000000000)")
    }

    /// Whether it builds something deep or large.
    pub fn is_extreme(&self) -> bool {
        let sizes = ["range(9999)", "range(10000)", "range(10001)"];
        self.takes_gigabytes() || sizes.iter().any(|size| self.program.contains(size))
    }
}

/// All cases of a file.
pub struct Cases<'a>(std::iter::Enumerate<std::str::Lines<'a>>);

impl Cases<'_> {
    /// The cases of this text.
    pub fn of(text: &str) -> Cases<'_> {
        Cases(text.lines().enumerate())
    }
}

impl Iterator for Cases<'_> {
    type Item = Case;

    fn next(&mut self) -> Option<Case> {
        let (mut at, mut program) = self.0.find(|(_, line)| !is_blank(line))?;
        let refused = program.starts_with("%%FAIL");
        if refused {
            (at, program) = self.0.next()?;
        }
        let input = match refused {
            true => "",
            false => self.0.next()?.1,
        };
        let rest = self.0.by_ref().map(|(_, line)| line);
        let outputs = rest.take_while(|line| !is_blank(line));
        Some(Case {
            line: at + 1,
            program: program.to_owned(),
            refused,
            input: input.to_owned(),
            outputs: outputs.map(str::to_owned).collect(),
        })
    }
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t']);
    line.is_empty() || line.starts_with('#')
}
