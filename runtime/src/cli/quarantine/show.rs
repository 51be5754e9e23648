//! `weir quarantine show`: one event with its data.

use crate::cli::client::{Client, Remote, path, pretty};
use crate::cli::table::plain;
use crate::cli::{CommandResult, Failure};
use crate::plain::lines;
use crate::server::views::{List, QuarantineView};

pub(super) async fn run(
    source: &str,
    sequence: u64,
    remote: &Remote,
    out: &mut String,
) -> CommandResult {
    let path = path(&["v1", "sources", source, "quarantine"]);
    let number = sequence.to_string();
    let filters = [("sequence", Some(number.as_str()))];
    let found: List<QuarantineView> = Client::new(remote)?.list(&path, &filters, 1).await?;
    let Some(kept) = found.items.into_iter().next() else {
        return Err(Failure::Failed(format!(
            "no event with the sequence {sequence} is in the quarantine of source {}; `weir quarantine list` shows them",
            plain(source)
        )));
    };
    out.push_str(&match remote.json {
        true => pretty(&kept),
        false => as_text(&kept),
    });
    Ok(true)
}

fn as_text(kept: &QuarantineView) -> String {
    let event = &kept.event;
    let what = match (kept.body, kept.unread) {
        (true, _) => "the body of a request, which could not be read",
        (false, true) => "a part of a request, which could not be read",
        (false, false) => "an event",
    };
    let mut facts = vec![
        ("what", what.to_owned()),
        ("why", format!("{}: {}", kept.code, kept.detail)),
        ("time", kept.time.to_string()),
    ];
    let more = [
        ("plugin", kept.plugin.clone()),
        ("id", Some(event.id.clone())),
        ("type", Some(event.event_type.clone())),
        ("from", Some(event.source.clone())),
        ("media type", event.content_type.clone()),
    ];
    let more = more
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    facts.extend(more.filter(|(_, value)| !value.is_empty()));
    if kept.count > 1 {
        facts.push(("times", kept.count.to_string()));
    }
    let mut text = String::new();
    for (name, value) in facts {
        text.push_str(&format!("{name:<12}{}\n", plain(&value)));
    }
    let data = [&kept.text, &event.data, &event.data_base64];
    let data = data.into_iter().flatten().next();
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        text.push_str(&format!("\n{}\n", lines(data).trim_end()));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::server::views::EventView;

    #[test]
    fn a_body_that_could_not_be_read_is_shown_as_the_text_that_it_is() {
        let kept = QuarantineView {
            sequence: 7,
            time: Default::default(),
            first: Default::default(),
            count: 2,
            code: "invalid-encoding".into(),
            detail: "byte 3 is not valid".into(),
            plugin: None,
            unread: true,
            body: true,
            text: Some("Größe;\u{1b}[2J\n1;2\n".into()),
            event: EventView {
                content_type: Some("text/csv".into()),
                data_base64: Some("AAAA".into()),
                ..EventView::default()
            },
        };
        expect![[r"
            what        the body of a request, which could not be read
            why         invalid-encoding: byte 3 is not valid
            time        1970-01-01T00:00:00.000Z
            media type  text/csv
            times       2

            Größe;\u001b[2J
            1;2
        "]]
        .assert_eq(&as_text(&kept));
    }
}
