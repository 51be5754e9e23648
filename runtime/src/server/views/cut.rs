//! Values that are too long for people: the beginning is shown, and the whole is there to be saved.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ChangePreviewView, EventView, FacetView, RenderingView};

/// The most bytes of a value that are shown.
const BYTES_MAX: usize = 64 << 10;
/// The most parts of JSON (members, items) of a value that are shown: 20 MiB may be one text or a million parts,
/// and the parts are what a page is slow with.
const PARTS_MAX: usize = 2_000;
/// The most bytes of all values of a response that are shown.
const TOTAL_MAX: usize = 1 << 20;

/// The beginning of a value that is too long to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CutView {
    /// The beginning of its text.
    pub start: String,
    /// The bytes of the whole.
    pub bytes: u64,
}

/// Cuts the values of a response.
#[derive(Debug)]
pub struct Cutter {
    left: usize,
}

impl Default for Cutter {
    fn default() -> Cutter {
        Cutter { left: TOTAL_MAX }
    }
}

impl Cutter {
    /// Returns the beginning of a text that is too long; `None` if it is shown whole.
    pub fn cut(&mut self, text: &str) -> Option<CutView> {
        let most = shown(text).min(self.left);
        let start = &text[..text.floor_char_boundary(most)];
        self.left -= start.len();
        (start.len() < text.len()).then(|| CutView {
            start: start.to_owned(),
            bytes: text.len() as u64,
        })
    }
}

impl EventView {
    /// Cuts its data.
    pub fn cut(&mut self, cutter: &mut Cutter) {
        self.cut = cut_either(&mut self.data, &mut self.data_base64, cutter);
    }
}

impl RenderingView {
    /// Cuts its body.
    pub fn cut(&mut self, cutter: &mut Cutter) {
        self.cut = cut_either(&mut self.body, &mut self.body_base64, cutter);
    }
}

impl FacetView {
    /// Cuts its value.
    pub fn cut(&mut self, cutter: &mut Cutter) {
        self.cut = cut_json(&mut self.value, cutter);
    }
}

impl ChangePreviewView {
    /// Cuts its value.
    pub fn cut(&mut self, cutter: &mut Cutter) {
        self.cut = cut_json(&mut self.value, cutter);
    }
}

fn cut_json(value: &mut Option<Box<RawValue>>, cutter: &mut Cutter) -> Option<CutView> {
    let cut = cutter.cut(value.as_ref()?.get());
    if cut.is_some() {
        *value = None;
    }
    cut
}

fn cut_either(
    text: &mut Option<String>,
    base64: &mut Option<String>,
    cutter: &mut Cutter,
) -> Option<CutView> {
    let cut = cutter.cut(text.as_ref().or(base64.as_ref())?);
    if cut.is_some() {
        (*text, *base64) = (None, None);
    }
    cut
}

/// How many bytes of a text are shown.
fn shown(text: &str) -> usize {
    // In JSON a comma or an opening bracket comes before each part. One in a text counts too, so that less is
    // shown of a text with thousands of them, which is no harm.
    let begins = |byte: u8| matches!(byte, b',' | b'[' | b'{');
    let bytes = text.bytes().take(BYTES_MAX + 1).enumerate();
    let mut parts = bytes.filter(|(_, byte)| begins(*byte));
    let end = parts.nth(PARTS_MAX).map(|(at, _)| at);
    end.unwrap_or(BYTES_MAX).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<(usize, u64)> {
        let cut = Cutter::default().cut(text);
        cut.map(|cut| (cut.start.len(), cut.bytes))
    }

    #[test]
    fn a_value_is_cut_at_its_bytes_or_its_parts() {
        assert_eq!(bytes(&"x".repeat(BYTES_MAX)), None);
        let long = "ä".repeat(BYTES_MAX / 2 + 1);
        assert_eq!(bytes(&long), Some((BYTES_MAX, BYTES_MAX as u64 + 2)));
        let odd = format!("x{long}");
        assert_eq!(bytes(&odd).unwrap().0, BYTES_MAX - 1, "no character is cut");
        let items = format!("[{}1]", "1,".repeat(PARTS_MAX - 1));
        assert_eq!(bytes(&items), None);
        let items = format!("[{}1]", "1,".repeat(PARTS_MAX));
        assert_eq!(bytes(&items), Some((2 * PARTS_MAX, items.len() as u64)));
    }

    #[test]
    fn the_values_of_a_response_are_bounded_together() {
        let (mut cutter, long) = (Cutter::default(), "x".repeat(BYTES_MAX));
        let shown: usize = (0..500)
            .map(|_| cutter.cut(&long).map_or(long.len(), |cut| cut.start.len()))
            .sum();
        assert_eq!(shown, TOTAL_MAX);
    }
}
