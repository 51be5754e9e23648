//! The path and the query of a request, read strictly: a parameter that is unknown, given
//! twice or not understood is named in a 400. A mistyped filter must not drop everything.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::backend::{Page, QuarantineFilter, ReceiptQuery, RefusedFilter};
use super::problem::Problem;
use super::views::List;
use crate::model::{EntityId, KEY_BYTES_MAX, Sequence, Timestamp};
use crate::plan::duration;

/// Items per page, if the request gives no limit.
pub(super) const LIMIT: usize = 100;
/// Maximum number of items per page.
pub(super) const LIMIT_MAX: usize = 1000;
/// How long a receipt waits at most: proxies give up after a minute, some sooner.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(50);

/// Segments of the path, percent-decoded: a key may hold `/` (as `%2F`), NUL or anything else.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(segments)| Segments(segments))
            .map_err(|error| {
                Problem::bad_request("bad-path", "the path is not percent-encoded UTF-8")
                    .logged(error.to_string())
            })
    }
}

/// The query. Each parameter is read once; [`Query::end`] rejects those that were not read.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Query {
    /// Pairs as in a query or a form.
    pub(super) fn parse(text: &str) -> Result<Query, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                percent_decode_str(&text.replace('+', " "))
                    .decode_utf8()
                    .map(|text| text.into_owned())
            };
            let (Ok(name), Ok(value)) = (decode(name), decode(value)) else {
                return Err(Problem::bad_parameter(name, "not percent-encoded UTF-8"));
            };
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(Problem::bad_parameter(&name, "given twice"));
            }
            pairs.push((name, value));
        }
        Ok(Query(pairs))
    }

    /// The value of a parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(index).1)
    }

    /// The value of a parameter that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<String, Problem> {
        self.take(name)
            .ok_or_else(|| Problem::bad_parameter(name, "must be given"))
    }

    /// A number in a range.
    pub(super) fn number(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Problem> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let wrong = || {
            let (first, last) = (range.start(), range.end());
            let detail = format!("must be a number from {first} to {last}, not `{text}`");
            Problem::bad_parameter(name, detail)
        };
        number.map(Some).ok_or_else(wrong)
    }

    /// `sequence` and `wait`; `None` without a sequence.
    pub(super) fn receipt(&mut self) -> Result<Option<ReceiptQuery>, Problem> {
        let sequence = self.number("sequence", 1..=u64::MAX)?.map(Sequence);
        let wait = match self.take("wait") {
            None => None,
            Some(_) if sequence.is_none() => {
                let detail = "say up to which `sequence` the entity must be settled";
                return Err(Problem::bad_parameter("wait", detail));
            }
            Some(text) => {
                let wait = duration(&text).filter(|wait| *wait <= WAIT_MAX);
                Some(wait.ok_or_else(|| {
                    let most = WAIT_MAX.as_secs();
                    let detail = format!(
                        "must be a duration such as `10s`, at most `{most}s`, not `{text}`"
                    );
                    Problem::bad_parameter("wait", detail)
                })?)
            }
        };
        let wait = wait.unwrap_or_default();
        Ok(sequence.map(|sequence| ReceiptQuery { sequence, wait }))
    }

    /// `true` or `false`; false if it is not there.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Problem::bad_parameter(
                name,
                format!("must be `true` or `false`, not `{other}`"),
            )),
        }
    }

    /// The `limit` of a job, if this is to be one: all without it.
    pub(super) fn as_job(&mut self) -> Result<Option<usize>, Problem> {
        if !self.flag("job")? {
            return Ok(None);
        }
        let limit = self.number("limit", 1..=u64::MAX)?;
        Ok(Some(limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        })))
    }

    /// Rejects any parameter that was not read.
    pub(super) fn end(self) -> Result<(), Problem> {
        self.end_but(|_| false)
    }

    /// The same; the parameters that `known` names belong to somebody else.
    pub(super) fn end_but(self, known: impl Fn(&str) -> bool) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !known(name)) {
            Some((name, _)) => Err(Problem::bad_parameter(
                name,
                "this route has no such parameter",
            )),
            None => Ok(()),
        }
    }

    /// `limit` and `after`.
    pub(super) fn page(&mut self) -> Result<Page, Problem> {
        let limit = match self.take("limit") {
            None => LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| {
                    Problem::bad_parameter(
                        "limit",
                        format!("must be a number from 1 to {LIMIT_MAX}, not `{text}`"),
                    )
                })?,
        };
        Ok(Page {
            limit,
            after: self.take("after"),
        })
    }

    /// `key` and `code`.
    pub(super) fn refused_filter(&mut self) -> RefusedFilter {
        RefusedFilter {
            key: self.take("key"),
            code: self.take("code"),
        }
    }

    /// `sequence`, `code`, `plugin`, `type`, `since` and `before`.
    pub(super) fn quarantine_filter(&mut self) -> Result<QuarantineFilter, Problem> {
        let sequence = match self.take("sequence") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                Problem::bad_parameter("sequence", format!("must be a number, not `{text}`"))
            })?),
        };
        let (since, before) = (self.time("since")?, self.time("before")?);
        Ok(QuarantineFilter {
            sequence,
            code: self.take("code"),
            plugin: self.take("plugin"),
            event_type: self.take("type"),
            since,
            before,
        })
    }

    fn time(&mut self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        moment(&text).map(Some).ok_or_else(|| {
            Problem::bad_parameter(
                name,
                format!("must be a time such as 2026-11-18T11:06:40Z, not `{text}`"),
            )
        })
    }

    /// Requires a filter, or `all=true`: a request that settles many things at once must say so.
    pub(super) fn means_it(&mut self, filtered: bool) -> Result<(), Problem> {
        match (self.take("all").as_deref(), filtered) {
            (Some("true"), false) | (None | Some("false"), true) => Ok(()),
            (None | Some("false"), false) => Err(Problem::bad_parameter(
                "all",
                "say which ones by a filter, or `all=true`",
            )),
            (Some("true"), true) => Err(Problem::bad_parameter(
                "all",
                "cannot be `true` together with a filter",
            )),
            (Some(other), _) => Err(Problem::bad_parameter(
                "all",
                format!("must be `true` or `false`, not `{other}`"),
            )),
        }
    }
}

/// A time of RFC 3339. A `+` before the offset may have been read as a blank, since not every client
/// encodes it. Times before 1970 are its begin; those at the end of the year 9999, which the library
/// cannot hold, are the end of all.
fn moment(text: &str) -> Option<Timestamp> {
    let text = text.replace(' ', "+");
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(
            u64::try_from(moment.as_millisecond()).unwrap_or_default(),
        ));
    }
    let without_zone = text.trim_end_matches(['Z', 'z']);
    let last = without_zone.starts_with("9999-12-3") && text.len() > "9999-12-31T00:00:00".len();
    let civil = without_zone.parse::<jiff::civil::DateTime>();
    (last && civil.is_ok()).then_some(Timestamp(u64::MAX))
}

/// An entity named in a request.
pub(super) fn entity_id(entity_type: &str, key: &str) -> Result<EntityId, Problem> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let detail = format!(
            "a key has 1 to {KEY_BYTES_MAX} bytes; this one has {}",
            key.len()
        );
        return Err(Problem::bad_request("bad-key", detail));
    }
    Ok(EntityId {
        entity_type: entity_type.into(),
        key: key.into(),
    })
}

/// One page of a list that is in memory, in the order of names.
pub(super) fn page_of<T>(mut items: Vec<T>, page: &Page, name: impl Fn(&T) -> &str) -> List<T> {
    items.sort_by(|a, b| name(a).cmp(name(b)));
    items.retain(|item| page.after.as_deref().is_none_or(|after| name(item) > after));
    let more = items.len() > page.limit;
    items.truncate(page.limit);
    let next = items
        .last()
        .filter(|_| more)
        .map(|item| name(item).to_owned());
    List { items, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(query: &str, read: impl Fn(&mut Query) -> Result<(), Problem>) -> String {
        let result =
            Query::parse(query).and_then(|mut query| read(&mut query).and_then(|()| query.end()));
        result
            .err()
            .map(|problem| problem.detail().to_owned())
            .unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_in_a_query_is_named() {
        let page = |query: &mut Query| query.page().map(|_| ());
        assert_eq!(complaint("limit=5&after=a%2Fb", page), "");
        assert_eq!(
            complaint("limit=0", page),
            "query parameter `limit`: must be a number from 1 to 1000, not `0`"
        );
        assert_eq!(
            complaint("limit=1001", page),
            "query parameter `limit`: must be a number from 1 to 1000, not `1001`"
        );
        assert_eq!(
            complaint("limit=ten", page),
            "query parameter `limit`: must be a number from 1 to 1000, not `ten`"
        );
        assert_eq!(
            complaint("limit=1&limit=2", page),
            "query parameter `limit`: given twice"
        );
        assert_eq!(
            complaint("limt=1", page),
            "query parameter `limt`: this route has no such parameter"
        );
        assert_eq!(
            complaint("after=%ff", page),
            "query parameter `after`: not percent-encoded UTF-8"
        );
    }

    #[test]
    fn a_time_is_taken_in_any_offset_and_nothing_else_is() {
        let filter =
            |text: &str| Query::parse(text).and_then(|mut query| query.quarantine_filter());
        let since = |text: &str| filter(text).ok().and_then(|filter| filter.since);
        assert_eq!(
            since("since=2026-11-18T11:06:40.120Z"),
            Some(Timestamp(1_795_000_000_120))
        );
        assert_eq!(
            since("since=2026-11-18T12:06:40.120%2B01:00"),
            Some(Timestamp(1_795_000_000_120))
        );
        assert_eq!(
            since("since=2026-11-18T12:06:40.120+01:00"),
            Some(Timestamp(1_795_000_000_120)),
            "an offset that was not encoded"
        );
        assert_eq!(since("since=1960-01-01T00:00:00Z"), Some(Timestamp(0)));
        for end in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999%2B14:00"] {
            assert!(since(&format!("since={end}")).is_some(), "{end}");
        }
        assert_eq!(since("since=9999-12-31T25:00:00Z"), None);
        assert_eq!(since("since=9999-12-31"), None);
        let said = filter("before=yesterday")
            .err()
            .map(|problem| problem.detail().to_owned());
        assert_eq!(
            said.as_deref(),
            Some(
                "query parameter `before`: must be a time such as 2026-11-18T11:06:40Z, not `yesterday`"
            )
        );
    }

    #[test]
    fn dropping_everything_has_to_be_meant() {
        let means = |query: &mut Query| {
            let filter = query.refused_filter();
            query.means_it(filter != RefusedFilter::default())
        };
        assert_eq!(complaint("key=a", means), "");
        assert_eq!(complaint("all=true", means), "");
        assert_eq!(
            complaint("", means),
            "query parameter `all`: say which ones by a filter, or `all=true`"
        );
        assert_eq!(
            complaint("kye=a", means),
            "query parameter `all`: say which ones by a filter, or `all=true`"
        );
        assert_eq!(
            complaint("all=true&key=a", means),
            "query parameter `all`: cannot be `true` together with a filter"
        );
        assert_eq!(
            complaint("all=yes", means),
            "query parameter `all`: must be `true` or `false`, not `yes`"
        );
    }

    #[test]
    fn pages_meet_without_gap_or_overlap() {
        let names = || ["d", "a", "c", "b"].map(str::to_owned).to_vec();
        let page = |after: Option<&str>| {
            page_of(
                names(),
                &Page {
                    limit: 3,
                    after: after.map(str::to_owned),
                },
                |name| name,
            )
        };
        assert_eq!(
            (page(None).items, page(None).next),
            (
                vec!["a".to_owned(), "b".into(), "c".into()],
                Some("c".into())
            )
        );
        assert_eq!(
            (page(Some("c")).items, page(Some("c")).next),
            (vec!["d".to_owned()], None)
        );
    }
}
