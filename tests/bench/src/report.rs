//! The report of a measurement: its figures in order, the goals, and the cost. One form for all, as
//! text and as JSON.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::clock::{Usage, round};
use weir::inside::cli::{CommandResult, pretty};

/// A scenario's result.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scenario: &'static str,
    /// The share of the full size that was measured; goals are judged at full size only.
    scale: f64,
    figures: Figures,
    aims: Vec<Aim>,
    usage: Figures,
}

/// Names, which contain their units, and values, in the order of the report.
#[derive(Debug, Default)]
struct Figures(Vec<(String, Value)>);

/// The goal of a figure.
#[derive(Debug, Serialize)]
struct Aim {
    figure: String,
    aim: String,
    measured: Value,
    /// `None` below full size.
    hit: Option<bool>,
}

impl Report {
    pub(super) fn new(scenario: &'static str, scale: f64) -> Report {
        Report {
            scenario,
            scale,
            figures: Figures::default(),
            aims: Vec::new(),
            usage: Figures::default(),
        }
    }

    /// A figure without a goal.
    pub(super) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.0.push((name.to_owned(), value.into()));
    }

    /// A figure that should be at least this.
    pub(super) fn at_least(&mut self, name: &str, value: f64, aim: f64) {
        self.aimed(name, value, format!("at least {aim}"), value >= aim);
    }

    /// A figure that should be at most this.
    pub(super) fn at_most(&mut self, name: &str, value: f64, aim: f64) {
        self.aimed(name, value, format!("at most {aim}"), value <= aim);
    }

    /// A figure that must be just this, at any size.
    pub(super) fn exactly(&mut self, name: &str, value: u64, aim: u64) {
        self.figure(name, value);
        self.aims.push(Aim {
            figure: name.to_owned(),
            aim: format!("exactly {aim}"),
            measured: value.into(),
            hit: Some(value == aim),
        });
    }

    fn aimed(&mut self, name: &str, value: f64, aim: String, hit: bool) {
        let value = round(value, 2);
        self.figure(name, value);
        let hit = (self.scale >= 1.0).then_some(hit);
        self.aims.push(Aim {
            figure: name.to_owned(),
            aim,
            measured: json!(value),
            hit,
        });
    }

    /// The resources that a phase used.
    pub(super) fn usage(&mut self, phase: &str, usage: &Usage) {
        self.usage.0.push((phase.to_owned(), json!(usage)));
    }

    /// False if a figure that must be exact at any size is not.
    fn sound(&self) -> bool {
        self.aims
            .iter()
            .all(|aim| !aim.aim.starts_with("exactly") || aim.hit != Some(false))
    }

    /// Writes the report. Returns whether all figures that must be exact at any size are.
    pub(super) fn end(self, json: bool, out: &mut String) -> CommandResult {
        out.push_str(&self.to_text(json));
        Ok(self.sound())
    }

    fn to_text(&self, json: bool) -> String {
        if json {
            return pretty(self);
        }
        let mut text = format!("{} at scale {}\n\n", self.scenario, self.scale);
        for (name, value) in &self.figures.0 {
            text.push_str(&format!(
                "{:<40}  {}\n",
                name.replace('_', " "),
                shown(value)
            ));
        }
        for Aim {
            figure,
            aim,
            measured,
            hit,
        } in &self.aims
        {
            let verdict = match hit {
                Some(true) => "hit",
                Some(false) => "MISSED",
                None => "not judged: this is not the full size",
            };
            text.push_str(&format!(
                "\naim: {} {aim}; measured {}: {verdict}",
                figure.replace('_', " "),
                shown(measured)
            ));
        }
        text.push('\n');
        for (phase, usage) in &self.usage.0 {
            text.push_str(&format!("\ncost of {phase}\n"));
            for (name, value) in usage.as_object().into_iter().flatten() {
                text.push_str(&format!(
                    "  {:<38}  {}\n",
                    name.replace('_', " "),
                    shown(value)
                ));
            }
        }
        text
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(parts) => parts
            .iter()
            .map(|(name, value)| format!("{name} {}", shown(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_are_judged_at_full_size_and_what_must_be_exact_always() {
        let check = |scale: f64, deliveries: u64| {
            let mut report = Report::new("story", scale);
            report.at_least("rate_per_second", 10.126, 20.0);
            report.exactly("deliveries", deliveries, 3);
            (report.sound(), report.to_text(false), report.to_text(true))
        };
        let (sound, text, json) = check(1.0, 3);
        assert!(
            sound && text.contains("rate per second at least 20; measured 10.13: MISSED"),
            "{text}"
        );
        assert!(json.contains("\"rate_per_second\": 10.13"), "{json}");
        let (sound, text, _) = check(0.1, 4);
        assert!(!sound && text.contains("not judged"), "{text}");
    }
}
