//! The events that are sent, and how their states are recognised in what arrives.
//!
//! Each event is about a product `sku-KEY` and carries `seq`, a number that rises over the whole load.
//! Whatever a system makes of an event, both are still in the delivery, so one look at its bytes says
//! which state of which product arrived.

use bytes::Bytes;
use clap::ValueEnum;
use memchr::memmem;

/// What an event looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A change as Weir takes it without a mapper
    Plain,
    /// A product as a PIM sends it, which has to be mapped
    Pim,
}

/// The state of a product: its number and the number of the event that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The number in `sku-KEY`.
    pub key: u32,
    /// The number of the event.
    pub seq: u32,
}

/// An event of a day, as a line of the file that the sink compares with what arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// What it brings.
    pub state: State,
    /// When it was due: milliseconds since 1970.
    pub ms: u64,
    /// Whether it belongs to the change of every product.
    pub full_change: bool,
}

impl Due {
    /// The line for this event.
    pub fn line(&self) -> String {
        let State { key, seq } = self.state;
        format!("{key} {seq} {} {}\n", self.ms, u8::from(self.full_change))
    }

    /// The event of a line, if it is one.
    pub fn read(line: &str) -> Option<Due> {
        let mut words = line.split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (key, seq, ms, full_change) = (number()?, number()?, number()?, number()?);
        Some(Due {
            state: State {
                key: key.try_into().ok()?,
                seq: seq.try_into().ok()?,
            },
            ms,
            full_change: full_change == 1,
        })
    }
}

impl Format {
    /// The event that brings this state. A plain one is filled up to `bytes`.
    pub fn write(self, state: State, bytes: usize) -> String {
        match self {
            Format::Plain => plain(state, bytes),
            Format::Pim => pim(state),
        }
    }
}

fn plain(State { key, seq }: State, bytes: usize) -> String {
    const WORDS: &str = "lorem ipsum dolor sit amet ";
    let (units, cents) = (seq % 900, seq % 100);
    let mut event = format!(
        r#"{{"type":"product","key":"sku-{key}","facet":"price","version":{seq},"value":{{"amount":"{units}.{cents:02}","currency":"EUR","valid_from":"2026-11-27","seq":{seq},"note":""#
    );
    let end = r#""}}"#;
    let missing = bytes.saturating_sub(event.len() + end.len());
    event.extend(WORDS.chars().cycle().take(missing));
    event + end
}

/// A product with values by locale and scope, as Akeneo's API has them, and its number as one more attribute.
fn pim(State { key, seq }: State) -> String {
    let (hour, minute) = (seq / 3_600_000 % 24, seq / 60_000 % 60);
    let (second, milli) = (seq / 1_000 % 60, seq % 1_000);
    let names = format!(
        r#"[{{"locale":"de_DE","scope":null,"data":"Tischleuchte Fjord {seq:010}"}},{{"locale":"fr_FR","scope":null,"data":"Lampe de table Fjord {seq:010}"}}]"#
    );
    let descriptions = concat!(
        r#"[{"locale":"de_DE","scope":"ecommerce","data":"<p>Esche &amp; Messing, handgemacht, mit Schalter am Kabel.</p>"},"#,
        r#"{"locale":"fr_FR","scope":"ecommerce","data":"<p>Frêne et laiton, fait à la main, interrupteur sur le câble.</p>"},"#,
        r#"{"locale":"de_DE","scope":"print","data":"Esche, Messing."}]"#
    );
    let cord = r#"[{"locale":null,"scope":null,"data":{"amount":"1.8000","unit":"METER"}}]"#;
    format!(
        concat!(
            r#"{{"product":{{"uuid":"0190fe8a-6213-76ce-8a9f-ba36a{key:07}","identifier":"sku-{key}","family":"lamps","enabled":true,"#,
            r#""parent":null,"categories":["lighting","lighting_desk"],"values":{{"name":{names},"description":{descriptions},"#,
            r#""cord_length":{cord},"seq":[{{"locale":null,"scope":null,"data":{seq}}}]}},"created":"2019-03-04T10:00:00+00:00","#,
            r#""updated":"2026-01-02T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"}},"author":{{"identifier":"julia","type":"user"}}}}"#
        ),
        key = key,
        seq = seq,
        names = names,
        descriptions = descriptions,
        cord = cord,
        hour = hour,
        minute = minute,
        second = second,
        milli = milli
    )
}

/// The states in the body of a delivery, in their order, and the number of items whose state could not be
/// read.
///
/// An item is a `"key"` that is `"sku-…"`, and the `"seq"` next to it. An envelope may name the key of its
/// content once more: the same state twice in a row is one item. Systems that sort fields write `"seq"`
/// before the key it belongs to.
pub fn states(body: &[u8]) -> (Vec<State>, u64) {
    let first = |name: &[u8]| memmem::find(body, name).unwrap_or(usize::MAX);
    let seq_first = first(b"\"seq\"") < first(b"\"key\"");
    let (mut states, mut unread, mut from) = (Vec::new(), 0, 0);
    for at in memmem::find_iter(body, b"\"key\"") {
        let seq = match seq_first {
            true => number(&body[from..at], b"\"seq\"", b""),
            false => number(&body[at..], b"\"seq\"", b""),
        };
        from = at;
        match (number(&body[at..], b"\"key\"", b"sku-"), seq) {
            (Some(key), Some(seq)) if states.last() == Some(&State { key, seq }) => {}
            (Some(key), Some(seq)) => states.push(State { key, seq }),
            _ => unread += 1,
        }
    }
    (states, unread)
}

/// The number that the first field `name` has, behind `prefix`; a quote may stand around it.
fn number(body: &[u8], name: &[u8], prefix: &[u8]) -> Option<u32> {
    let value = &body[memmem::find(body, name)? + name.len()..];
    let start = value
        .iter()
        .position(|byte| !matches!(byte, b' ' | b':' | b'"'))?;
    let digits = value[start..].strip_prefix(prefix)?;
    let end = digits
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// The lines of an NDJSON body that are not empty.
pub fn lines(body: &Bytes) -> Vec<Bytes> {
    let mut lines = Vec::new();
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
    for end in ends {
        let line = body.slice(start..end);
        if !line.trim_ascii().is_empty() {
            lines.push(line);
        }
        start = end + 1;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(key: u32, seq: u32) -> State {
        State { key, seq }
    }

    #[test]
    fn a_plain_event_is_json_of_the_asked_size_and_is_recognised() {
        let event = Format::Plain.write(state(17, 4_711), 730);
        assert_eq!(event.len(), 730);
        serde_json::from_str::<serde_json::Value>(&event).expect("it is JSON");
        assert_eq!(states(event.as_bytes()), (vec![state(17, 4_711)], 0));
    }

    #[test]
    fn an_event_of_a_day_is_read_as_it_was_written() {
        for full_change in [false, true] {
            let (state, ms) = (state(17, 4_711), 1_796_000_000_123);
            let due = Due {
                state,
                ms,
                full_change,
            };
            assert_eq!(Due::read(due.line().trim_end()), Some(due));
        }
        assert_eq!(Due::read("17 4711 12"), None);
    }

    #[test]
    fn an_event_of_a_pim_is_json() {
        let event = Format::Pim.write(state(17, 4_711), 0);
        let event: serde_json::Value = serde_json::from_str(&event).expect("it is JSON");
        assert_eq!(event["product"]["identifier"], "sku-17");
        assert_eq!(event["product"]["values"]["seq"][0]["data"], 4_711);
    }

    #[test]
    fn states_are_recognised_however_a_system_writes_them() {
        let plain = |key, seq| Format::Plain.write(state(key, seq), 200);
        let enveloped = |key, seq| {
            let content = format!(
                r#"{{"type":"product","key":"sku-{key}","facets":{{"price":{{"seq":{seq}}}}}}}"#
            );
            format!(
                r#"{{"id":"x","type":"product","key":"sku-{key}","sequence":9,"content":{content}}}"#
            )
        };
        let sorted =
            |key, seq| format!(r#"{{"facets":{{"content":{{"seq":{seq}}}}},"key":"sku-{key}"}}"#);
        let spaced = r#"{"key": "sku-3", "value": {"seq": "30"}}"#.to_owned();
        for (body, expected) in [
            (
                format!("[{},{}]", plain(1, 10), plain(2, 20)),
                vec![state(1, 10), state(2, 20)],
            ),
            (
                format!("{}\n{}\n", plain(1, 10), plain(1, 11)),
                vec![state(1, 10), state(1, 11)],
            ),
            (
                format!("[{},{}]", enveloped(1, 10), enveloped(2, 20)),
                vec![state(1, 10), state(2, 20)],
            ),
            (
                format!("[{},{}]", sorted(1, 10), sorted(2, 20)),
                vec![state(1, 10), state(2, 20)],
            ),
            (spaced, vec![state(3, 30)]),
        ] {
            assert_eq!(states(body.as_bytes()), (expected, 0), "{body}");
        }
    }

    #[test]
    fn an_item_without_a_state_is_counted() {
        assert_eq!(states(br#"[{"key":"other"},{"key":"sku-1"}]"#), (vec![], 2));
        assert_eq!(states(b"OK"), (vec![], 0));
        // A number that no event has must not be taken for another.
        assert_eq!(states(br#"{"key":"sku-1","seq":99999999999}"#), (vec![], 1));
    }

    #[test]
    fn lines_are_cut_at_newlines_and_empty_ones_are_left_out() {
        let body = Bytes::from_static(b"{\"a\":1}\n\n{\"b\":2}\r\n  \n{\"c\":3}");
        let lines = lines(&body);
        assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}\r", "{\"c\":3}"]);
    }
}
