//! JSON pointers (RFC 6901) into the answers of targets, with `*` for every element.

use serde_json::Value;

/// A pointer such as `/errors/*/extensions/code`. The token `*` stands for every element of an array
/// and every member of an object; the empty pointer is the whole document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Every,
    Name(String),
}

impl Pointer {
    /// Parses a pointer; `None` if it is not empty and does not start with `/`, or has a `~` that is
    /// neither `~0` nor `~1`.
    pub fn parse(text: &str) -> Option<Pointer> {
        let tokens = match text {
            "" => Vec::new(),
            text => {
                let rest = text.strip_prefix('/')?;
                rest.split('/').map(token).collect::<Option<_>>()?
            }
        };
        Some(Pointer {
            text: text.to_owned(),
            tokens,
        })
    }

    /// The pointer as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The values that it points at, in the order of the document.
    pub(crate) fn find<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![document];
        for token in &self.tokens {
            found = found
                .into_iter()
                .flat_map(|value| step(value, token))
                .collect();
        }
        found
    }

    /// The first value that it points at.
    pub(crate) fn first<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.find(document).into_iter().next()
    }
}

fn token(text: &str) -> Option<Token> {
    if text == "*" {
        return Some(Token::Every);
    }
    let escaped = text.match_indices('~').all(|(at, _)| {
        text.as_bytes()
            .get(at + 1)
            .is_some_and(|next| matches!(next, b'0' | b'1'))
    });
    escaped.then(|| Token::Name(text.replace("~1", "/").replace("~0", "~")))
}

fn step<'a>(value: &'a Value, token: &Token) -> Vec<&'a Value> {
    match (token, value) {
        (Token::Every, Value::Array(elements)) => elements.iter().collect(),
        (Token::Every, Value::Object(members)) => members.values().collect(),
        (Token::Name(name), Value::Object(members)) => members.get(name).into_iter().collect(),
        (Token::Name(name), Value::Array(elements)) => name
            .parse::<usize>()
            .ok()
            .and_then(|index| elements.get(index))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pointer_walks_names_indexes_and_everything() {
        let document = json!({
            "errors": [{"code": "A"}, {"code": "B"}, {}],
            "data": {"one": {"x": 1}, "two": {"x": 2}},
            "a/b": {"~": true},
        });
        for (pointer, expected) in [
            ("", json!([document])),
            ("/errors/*/code", json!(["A", "B"])),
            ("/errors/1/code", json!(["B"])),
            ("/data/*/x", json!([1, 2])),
            ("/a~1b/~0", json!([true])),
            ("/errors/7", json!([])),
            ("/missing/*/x", json!([])),
        ] {
            let found = Pointer::parse(pointer).expect(pointer);
            assert_eq!(json!(found.find(&document)), expected, "{pointer}");
        }
        for wrong in ["errors", "/a~2", "/~", "$.errors"] {
            assert_eq!(Pointer::parse(wrong), None, "{wrong}");
        }
    }
}
