//! An item of a tap as a block of lines for people. Texts of others are escaped, and never begin a line.

use crate::cli::table::plain;
use crate::tap::story::{
    BodyStory, DeliveryStory, EventStory, PluginStory, RequestStory, WhyStory,
};

/// The most characters of a body on one line.
const LINE_CHARS_MAX: usize = 160;

/// An event.
pub(super) fn event(story: &EventStory, full: bool) -> String {
    let mut lines = Lines::default();
    let event = story.event.as_ref();
    let named = event.map(|event| {
        let subject = event.subject.as_deref().unwrap_or_default();
        let words = [event.event_type.as_str(), event.id.as_str(), subject];
        let words = words.into_iter().filter(|word| !word.is_empty());
        words.map(plain).collect::<Vec<_>>().join("  ")
    });
    // An event that names itself in no way is named by what it changes.
    let title = match (named, story.changes.first()) {
        (None, _) => "a request of which no event was taken".to_owned(),
        (Some(name), Some(change)) if name.is_empty() => {
            format!("{}/{}", plain(&change.entity_type), plain(&change.key))
        }
        (Some(name), _) => name,
    };
    let title = match story.redriven {
        true => format!("{title}  (redriven)"),
        false => title,
    };
    lines.head(&story.time, &story.outcome, &title);
    lines.why(story.why.as_ref());
    if let Some(event) = event {
        for (name, value) in event.attributes.iter().filter(|_| full) {
            lines.field("header", &format!("{}: {}", plain(name), plain(value)));
        }
        lines.body("data", &event.data, full);
    }
    lines.plugins(&story.plugins);
    for change in &story.changes {
        let version = change.version.as_ref();
        let version = version.map(|version| format!(" version {version}"));
        let name = format!(
            "{}/{} {}{} ({})",
            plain(&change.entity_type),
            plain(&change.key),
            plain(&change.facet),
            plain(&version.unwrap_or_default()),
            plain(&change.lane),
        );
        match &change.value {
            Some(value) => lines.body(&format!("change  {name}"), value, full),
            None => lines.field("change", &format!("{name}  deleted")),
        }
    }
    if let Some(total) = story.changes_total {
        lines.field("change", &format!("… {total} in all"));
    }
    if let Some(store) = &story.store {
        let counts = [
            (store.committed, "committed"),
            (store.unchanged, "unchanged"),
            (store.stale, "stale"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        let sequence = plain(&store.sequence);
        lines.field(
            "store",
            &format!("{}; sequence {sequence}", counts.join(", ")),
        );
    }
    lines.0
}

/// A result on a channel.
pub(super) fn delivery(story: &DeliveryStory, full: bool) -> String {
    let mut lines = Lines::default();
    let age = story
        .age_ms
        .map(|ms| format!("  {} s after the change", ms as f64 / 1e3));
    let title = format!(
        "{}/{}  {}  sequence {}{}",
        plain(&story.entity_type),
        plain(&story.key),
        plain(&story.lane),
        plain(&story.sequence),
        age.unwrap_or_default()
    );
    lines.head(&story.time, &story.outcome, &title);
    lines.why(story.why.as_ref());
    lines.plugins(&story.plugins);
    if let Some(key) = &story.target_key {
        lines.field("key", &plain(key));
    }
    if let Some(rendering) = &story.rendering {
        lines.body("rendered", rendering, full);
    }
    for made in &story.requests {
        request(made, full, &mut lines);
    }
    lines.0
}

fn request(made: &RequestStory, full: bool, lines: &mut Lines) {
    let together = match made.items {
        1 => String::new(),
        items => format!("  with {items} entities"),
    };
    let headers = |headers: &[(String, String)], lines: &mut Lines| {
        for (name, value) in headers.iter().filter(|_| full) {
            lines.more(&format!("{}: {}", plain(name), plain(value)));
        }
    };
    match &made.sent {
        Some(sent) => {
            let (method, url) = (plain(&sent.method), plain(&sent.url));
            let text = format!("{method} {url}  {}{together}", bytes(sent.bytes));
            lines.field("request", &text);
            headers(&sent.headers, lines);
        }
        None => lines.field("request", &format!("took {} ms{together}", made.took_ms)),
    }
    if let Some(answer) = &made.answer {
        let name = format!("answer    {} in {} ms", answer.status, made.took_ms);
        lines.body(&name, &answer.body, full);
        headers(&answer.headers, lines);
    }
    if let Some(error) = &made.error {
        lines.field(
            "answer",
            &format!("none in {} ms: {}", made.took_ms, plain(error)),
        );
    }
}

fn bytes(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} byte{plural}")
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, text: &str) {
        self.0.push_str(text.trim_end());
        self.0.push('\n');
    }

    fn head(&mut self, time: &str, outcome: &str, title: &str) {
        // The day is known to who looks on.
        let time = time.split_once('T').map_or(time, |(_, time)| time);
        self.line(&format!("{}  {:<11}  {title}", plain(time), plain(outcome)));
    }

    fn field(&mut self, name: &str, text: &str) {
        self.line(&format!("  {name:<8}  {text}"));
    }

    fn more(&mut self, text: &str) {
        self.line(&format!("      {text}"));
    }

    fn why(&mut self, why: Option<&WhyStory>) {
        if let Some(why) = why {
            let (code, detail) = (plain(&why.code), plain(&why.detail));
            self.field("why", &format!("{code}: {detail}"));
        }
    }

    fn plugins(&mut self, plugins: &[PluginStory]) {
        for plugin in plugins {
            let (name, role) = (plain(&plugin.plugin), plain(&plugin.role));
            self.field(
                "plugin",
                &format!("{name}  {role}  {}", plain(&plugin.verdict)),
            );
            plugin.log.iter().for_each(|line| self.more(&plain(line)));
        }
    }

    /// A body: on one line, or with all of its lines.
    fn body(&mut self, name: &str, body: &BodyStory, full: bool) {
        let media = body.content_type.as_deref().map(plain).unwrap_or_default();
        let mut head = format!("{name:<8}  {}  {media}", bytes(body.bytes));
        let text = match (&body.text, &body.base64) {
            (Some(text), _) => text,
            (None, Some(base64)) => {
                head.push_str("  base64");
                base64
            }
            (None, None) => "",
        };
        if !full {
            let short: String = plain(text).chars().take(LINE_CHARS_MAX).collect();
            let is_cut = body.cut || plain(text).len() > short.len();
            let more = if is_cut { "…" } else { "" };
            return self.line(&format!("  {}  {short}{more}", head.trim_end()));
        }
        self.line(&format!("  {head}"));
        text.lines().for_each(|line| self.more(&plain(line)));
        if body.cut {
            self.more("… (cut)");
        }
    }
}
