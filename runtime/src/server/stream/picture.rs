//! What a stream shows, field by field, each with the moment of its last change: enough to tell any client
//! what is new for it, whenever it was told last.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::TEXT_MAX;

/// Moments for which a row that is gone is remembered; a client that is further behind is disconnected
/// before.
const GONE_MOMENTS: u64 = 600;

/// Sections of rows of fields. A change of it makes a new moment.
#[derive(Debug, Default)]
pub(super) struct Picture {
    moment: u64,
    rows: BTreeMap<(&'static str, String), Row>,
}

#[derive(Debug, Default)]
struct Row {
    /// Each with the moment of its last change. One that is absent now is null.
    fields: BTreeMap<String, (Value, u64)>,
    /// When the row was added.
    added: u64,
    /// When it went.
    gone: Option<u64>,
}

impl Picture {
    /// The number of the present moment; 0 before the first.
    pub(super) fn moment(&self) -> u64 {
        self.moment
    }

    /// Takes over rows by section, name and JSON object.
    pub(super) fn become_all<const N: usize>(
        &mut self,
        sections: [(&'static str, Vec<(String, Value)>); N],
    ) {
        let moment = self.moment + 1;
        let mut changed = self.moment == 0;
        let mut all = BTreeMap::new();
        for (section, rows) in sections {
            for (name, value) in rows {
                let mut fields = BTreeMap::new();
                flatten("", value, &mut fields);
                all.insert((section, name), fields);
            }
        }
        for (at, row) in &mut self.rows {
            if row.gone.is_none() && !all.contains_key(at) {
                row.gone = Some(moment);
                row.fields.clear();
                changed = true;
            }
        }
        for (at, fields) in all {
            let row = self.rows.entry(at).or_default();
            if row.added == 0 || row.gone.is_some() {
                *row = Row::default();
                row.added = moment;
            }
            changed |= row.become_fields(fields, moment);
        }
        let forgotten = moment.saturating_sub(GONE_MOMENTS);
        self.rows
            .retain(|_, row| row.gone.is_none_or(|gone| gone >= forgotten));
        if changed {
            self.moment = moment;
        }
    }

    /// Everything that has changed after a moment: of each section the rows, null for one that is gone, of
    /// each row the fields, null for one that is absent now.
    pub(super) fn since(&self, moment: u64) -> Map<String, Value> {
        let mut sections = Map::new();
        for ((section, name), row) in &self.rows {
            let news = match row.gone {
                Some(gone) if gone > moment && moment > 0 => Value::Null,
                Some(_) => continue,
                None => {
                    let fields = row.fields.iter();
                    let news = fields
                        .filter(|(_, (value, at))| {
                            *at > moment && (row.added <= moment || !value.is_null())
                        })
                        .map(|(field, (value, _))| (field.clone(), value.clone()));
                    let news: Map<String, Value> = news.collect();
                    if news.is_empty() {
                        continue;
                    }
                    Value::Object(news)
                }
            };
            let rows = sections
                .entry(*section)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Some(rows) = rows.as_object_mut() {
                rows.insert(name.clone(), news);
            }
        }
        sections
    }
}

impl Row {
    /// Returns whether anything has changed.
    fn become_fields(&mut self, mut fields: BTreeMap<String, Value>, moment: u64) -> bool {
        for name in self.fields.keys() {
            fields.entry(name.clone()).or_insert(Value::Null);
        }
        let mut changed = false;
        for (name, value) in fields {
            match self.fields.get_mut(&name) {
                Some((before, _)) if *before == value => {}
                Some(field) => {
                    *field = (value, moment);
                    changed = true;
                }
                None => {
                    self.fields.insert(name, (value, moment));
                    changed = true;
                }
            }
        }
        changed
    }
}

/// Members of members become fields whose names are joined by a dot. Whole numbers become texts, so that
/// no reader rounds them.
fn flatten(prefix: &str, value: Value, fields: &mut BTreeMap<String, Value>) {
    let value = match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = match prefix {
                    "" => name,
                    _ => format!("{prefix}.{name}"),
                };
                flatten(&name, value, fields);
            }
            return;
        }
        Value::Number(number) if !number.is_f64() => Value::String(number.to_string()),
        Value::String(text) if text.len() > TEXT_MAX => {
            let cut = text.floor_char_boundary(TEXT_MAX);
            Value::String(format!("{}…", &text[..cut]))
        }
        value => value,
    };
    fields.insert(prefix.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(picture: &mut Picture, rows: &[(&str, Value)]) {
        let rows = rows
            .iter()
            .map(|(name, it)| ((*name).to_owned(), it.clone()));
        picture.become_all([("channels", rows.collect())]);
    }

    fn since(picture: &Picture, moment: u64) -> Value {
        Value::Object(picture.since(moment))
    }

    #[test]
    fn a_client_gets_what_has_changed_since_its_own_last_moment() {
        let mut picture = Picture::default();
        let row = |owed: u64, why: Value| json!({"owed": {"bulk": owed}, "rate": 1.5, "why": why});
        with(
            &mut picture,
            &[("de", row(1, json!("x"))), ("fr", row(1, Value::Null))],
        );
        let all = json!({"channels": {
            "de": {"owed.bulk": "1", "rate": 1.5, "why": "x"}, "fr": {"owed.bulk": "1", "rate": 1.5},
        }});
        assert_eq!((picture.moment(), since(&picture, 0)), (1, all));
        with(
            &mut picture,
            &[("de", row(2, json!("x"))), ("fr", row(1, Value::Null))],
        );
        assert_eq!(
            since(&picture, 1),
            json!({"channels": {"de": {"owed.bulk": "2"}}})
        );
        with(
            &mut picture,
            &[("de", row(3, Value::Null)), ("fr", row(1, Value::Null))],
        );
        let late = json!({"channels": {"de": {"owed.bulk": "3", "why": null}}});
        assert_eq!(since(&picture, 1), late, "each field once");
        assert_eq!(since(&picture, 2), late);
        assert_eq!(since(&picture, 3), json!({}));
    }

    #[test]
    fn nothing_new_is_no_moment() {
        let mut picture = Picture::default();
        for _ in 0..3 {
            with(&mut picture, &[("de", json!({"owed": 1}))]);
        }
        assert_eq!(picture.moment(), 1);
    }

    // What a reload removes and a later one brings back.
    #[test]
    fn a_row_that_goes_is_null_and_one_that_returns_is_whole() {
        let mut picture = Picture::default();
        let de = ("de", json!({"owed": 1}));
        with(&mut picture, &[de.clone(), ("fr", json!({"owed": 2}))]);
        with(&mut picture, std::slice::from_ref(&de));
        assert_eq!(since(&picture, 1), json!({"channels": {"fr": null}}));
        assert_eq!(
            since(&picture, 0),
            json!({"channels": {"de": {"owed": "1"}}})
        );
        with(&mut picture, &[de, ("fr", json!({"owed": 2}))]);
        assert_eq!(
            since(&picture, 2),
            json!({"channels": {"fr": {"owed": "2"}}})
        );
        assert_eq!(
            since(&picture, 1),
            json!({"channels": {"fr": {"owed": "2"}}})
        );
    }

    #[test]
    fn numbers_that_a_reader_would_round_are_texts_and_long_texts_are_cut() {
        let mut fields = BTreeMap::new();
        let text = "ä".repeat(TEXT_MAX);
        flatten("", json!({"n": u64::MAX, "t": text}), &mut fields);
        assert_eq!(fields["n"], json!("18446744073709551615"));
        let cut = fields["t"].as_str().unwrap();
        assert!(cut.len() <= TEXT_MAX + 3 && cut.ends_with('…'));
    }
}
