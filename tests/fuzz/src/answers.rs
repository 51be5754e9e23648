//! Responses of a target.

/// Any response of a target becomes one of the outcomes, one for each item of a batch, with a
/// reason that is short and safe to print on a terminal.
///
/// The input is two bytes for the status, a line for `Retry-After`, and the body.
pub fn answer(input: &[u8]) {
    let [low, high, rest @ ..] = input else {
        return;
    };
    let status = 100 + u16::from_le_bytes([*low, *high]) % 900;
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
