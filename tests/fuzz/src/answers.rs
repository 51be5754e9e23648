//! Responses of a target.

/// The first two bytes are a status; the rest.
fn status(input: &[u8]) -> Option<(u16, &[u8])> {
    let [low, high, rest @ ..] = input else {
        return None;
    };
    Some((100 + u16::from_le_bytes([*low, *high]) % 900, rest))
}

/// Any response, read with the rules of an API that Weir knows, gives an outcome for each item.
///
/// The input is a byte for the API, two for the status, and the body.
pub fn rules(input: &[u8]) {
    if let Some((api, rest)) = input.split_first()
        && let Some((status, body)) = status(rest)
    {
        weir::inside::targets::fuzz::rules(*api, status, body);
    }
}

/// Whatever a response says about the pace, it makes Weir slower within bounds.
///
/// The input is two bytes for the status, headers a line, an empty line, and the body.
pub fn hints(input: &[u8]) {
    if let Some((status, rest)) = status(input) {
        let end = rest.windows(2).position(|two| two == b"\n\n");
        let (head, body) = rest.split_at(end.unwrap_or(rest.len()));
        let (head, body) = (String::from_utf8_lossy(head), body.get(2..));
        weir::inside::targets::fuzz::hints(status, &head, body.unwrap_or_default());
    }
}

/// Any answer of a search engine gives an outcome for each document.
///
/// The input is a byte for the dialect, two for the status, and the body.
pub fn engine(input: &[u8]) {
    if let Some((dialect, rest)) = input.split_first()
        && let Some((status, body)) = status(rest)
    {
        weir::inside::targets::fuzz::engine(*dialect, status, body);
    }
}

/// Any response of a target becomes one of the outcomes, one for each item of a batch, with a
/// reason that is short and safe to print on a terminal.
///
/// The input is two bytes for the status, a line for `Retry-After`, and the body.
pub fn answer(input: &[u8]) {
    let Some((status, rest)) = status(input) else {
        return;
    };
    let line = rest
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(rest.len());
    let (retry_after, body) = (
        String::from_utf8_lossy(&rest[..line]),
        rest.get(line + 1..).unwrap_or_default(),
    );
    weir::inside::targets::fuzz::answer(status, &retry_after, body);
}
