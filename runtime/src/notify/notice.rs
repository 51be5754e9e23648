//! A notice, and how it is written: JSON with the fields that Standard Webhooks recommends, and the whole as
//! a sentence.

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::board::{Ended, How};
use super::{Condition, Kind, Subject};
use crate::model::Timestamp;
use crate::plain;

/// The most channels of a target that a notice names.
const CHANNELS_MAX: usize = 10;

/// What a receiver is told.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) condition: Condition,
    /// Its end; `None` if it has begun.
    pub(super) ended: Option<Ended>,
    /// How often it had begun by now.
    pub(super) begun: u64,
    /// How often it has begun since the last notice of it.
    pub(super) times: u64,
    /// When the last notice of it was sent.
    pub(super) last: Option<Timestamp>,
    /// For how long it must stay away until its end is told.
    pub(super) calm_ms: u64,
}

impl Notice {
    pub(super) fn kind(&self) -> Kind {
        match self.ended {
            Some(_) => Kind::Recovered,
            None => self.condition.kind,
        }
    }

    /// When it became true.
    pub(super) fn moment(&self) -> Timestamp {
        self.ended.map_or(self.condition.since, |ended| ended.at)
    }

    /// The same for all attempts at this notice, and for no other.
    pub(super) fn id(&self) -> String {
        let Condition { kind, subject, .. } = &self.condition;
        let (since, ended) = (self.condition.since.0, self.ended.map(|ended| ended.at.0));
        let ended = ended.unwrap_or_default();
        let name = format!("{} {subject} {since} {ended} {}", kind.name(), self.begun);
        format!("notice_{:032x}", xxh3_128(name.as_bytes()))
    }

    /// The body of the request.
    pub(super) fn body(&self, now: Timestamp) -> Value {
        let Condition {
            kind,
            subject,
            since,
            channels,
            ..
        } = &self.condition;
        let channels = match subject {
            Subject::Target(_) => channels.as_slice(),
            Subject::Channel(name) => std::slice::from_ref(name),
            Subject::Source(_) => &[],
        };
        let named: Vec<&str> = channels.iter().take(CHANNELS_MAX).map(|it| &**it).collect();
        let mut data = json!({
            "subject": subject.kind(),
            "name": &**subject.name(),
            "since": time(*since),
            "reason": self.reason(),
            "times": self.times,
            "channels": named,
            "channels_total": channels.len(),
            "path": self.path(),
        });
        if let Some(ended) = &self.ended {
            data["recovered_from"] = kind.name().into();
            data["until"] = time(ended.at).into();
        }
        json!({
            "type": self.kind().name(),
            "timestamp": time(now),
            "data": data,
            "text": self.text(),
        })
    }

    /// Where the API shows more.
    fn path(&self) -> String {
        match &self.condition.subject {
            Subject::Channel(name) => format!("/v1/channels/{name}"),
            Subject::Source(name) => format!("/v1/sources/{name}"),
            Subject::Target(_) => match self.condition.channels.first() {
                Some(channel) => format!("/v1/channels/{channel}"),
                None => "/v1/channels".to_owned(),
            },
        }
    }

    /// Why it holds, or why it is over.
    fn reason(&self) -> String {
        let condition = &self.condition;
        let Some(ended) = &self.ended else {
            return plain::line(&condition.reason).into_owned();
        };
        let over = match (ended.how, condition.kind) {
            (How::Removed, _) => "it has left the configuration",
            (How::Replaced, _) => {
                "a reload has changed its configuration; nothing is known of the new one yet"
            }
            (How::Over, Kind::Tripped | Kind::Recovered) => "it takes deliveries again",
            (How::Over, Kind::Held) => "it holds nothing back any more",
            (How::Over, Kind::Silent) => "it sends events again",
            (How::Over, Kind::Late) => "what it owes is within its freshness again",
        };
        over.to_owned()
    }

    /// The whole as sentences.
    fn text(&self) -> String {
        let Condition {
            kind,
            subject,
            since,
            remedy,
            ..
        } = &self.condition;
        let (word, reason) = (kind.name(), self.reason());
        let begun = match self.ended {
            Some(ended) => format!(
                "{subject} is no longer {word}: {reason}. It was from {} to {}.",
                time(*since),
                time(ended.at)
            ),
            None => format!("{subject} is {word} since {}: {reason}.", time(*since)),
        };
        let often = self.last.filter(|_| self.times > 1).map(|last| {
            let (times, last) = (self.times, time(last));
            format!(" This has begun {times} times since the notice of {last}.")
        });
        let calm = (self.calm_ms > 0 && self.ended.is_none()).then(|| {
            let minutes = self.calm_ms / 60_000;
            format!(
                " It keeps coming and going, so its end is told when it has lasted {minutes} min."
            )
        });
        let remedy = Some(remedy).filter(|it| !it.is_empty() && self.ended.is_none());
        let remedy = remedy.map(|remedy| format!(" {remedy}"));
        let more = [often, calm, remedy].into_iter().flatten();
        begun + &more.collect::<String>()
    }
}

/// A moment as responses of the API have it.
fn time(moment: Timestamp) -> String {
    let moment = i64::try_from(moment.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", moment.unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn notice(reason: &str) -> Notice {
        Notice {
            condition: Condition {
                kind: Kind::Tripped,
                subject: Subject::Target("shop".into()),
                since: Timestamp(1_795_000_000_250),
                reason: reason.to_owned(),
                remedy: "`weir channel show web` shows what is owed.".into(),
                channels: vec!["web".into(), "app".into()],
                identity: 1,
            },
            ended: None,
            begun: 3,
            times: 2,
            last: Some(Timestamp(1_794_999_900_000)),
            calm_ms: 120_000,
        }
    }

    fn written(notice: &Notice) -> String {
        format!("{:#}", notice.body(Timestamp(1_795_000_001_000)))
    }

    #[test]
    fn a_notice_says_what_happened_to_what_since_when_why_and_what_to_do() {
        expect![[r#"
            {
              "data": {
                "channels": [
                  "web",
                  "app"
                ],
                "channels_total": 2,
                "name": "shop",
                "path": "/v1/channels/web",
                "reason": "the target answered 500",
                "since": "2026-11-18T11:06:40.250Z",
                "subject": "target",
                "times": 2
              },
              "text": "target shop is tripped since 2026-11-18T11:06:40.250Z: the target answered 500. This has begun 2 times since the notice of 2026-11-18T11:05:00.000Z. It keeps coming and going, so its end is told when it has lasted 2 min. `weir channel show web` shows what is owed.",
              "timestamp": "2026-11-18T11:06:41.000Z",
              "type": "tripped"
            }"#]]
        .assert_eq(&written(&notice("the target answered 500")));
        let over = Notice {
            ended: Some(Ended {
                at: Timestamp(1_795_000_001_000),
                how: How::Over,
            }),
            times: 1,
            ..notice("the target answered 500")
        };
        let body = over.body(Timestamp(1_795_000_001_000));
        assert_eq!(
            body["text"],
            "target shop is no longer tripped: it takes deliveries again. It was from 2026-11-18T11:06:40.250Z to 2026-11-18T11:06:41.000Z."
        );
        assert_eq!(body["data"]["recovered_from"], "tripped");
        assert_ne!(over.id(), notice("").id());
        assert_eq!(notice("one").id(), notice("another").id());
    }

    // The reason quotes what a target answered.
    #[test]
    fn a_hostile_reason_is_a_text_without_what_terminals_obey() {
        let hostile = "answered 500: \"},\"type\":\"recovered\u{1b}[2J\r\n\u{202e}\u{0}";
        let text = written(&notice(hostile));
        let body: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(body["type"], "tripped");
        for value in [&body["data"]["reason"], &body["text"]] {
            let value = value.as_str().expect("a text");
            assert!(value.contains("\"},\"type\":\"recovered\\u001b[2J\\r\\n\\u202e\\u0000"));
            assert!(!value.chars().any(char::is_control), "{value}");
        }
    }
}
