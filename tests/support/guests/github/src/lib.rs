//! The adapter of CloudEvents for webhooks of GitHub, as a mapper: the attributes of the CloudEvent become a
//! facet. `map.jq` beside it states the same rules as a program.
//!
//! Where the rules want the current time, there is none: a plugin has no clock. Where they leave a question
//! open, and for events that they do not know, the type is the event's name and action, and the source is the
//! repository, the organization or the sender, whichever there is.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_plugin::{bail, version_from_time, Change, Error, Event, Result};

/// There are none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

/// The facet's value.
#[derive(Serialize)]
struct Attributes {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
}

/// Places in a body.
type Places = &'static [&'static str];

/// Where the attributes of an event are in its body. Of several places the first that has a value counts.
struct Rule {
    /// The words of the type behind `com.github.` and the name.
    words: Places,
    source: Places,
    subject: Places,
    time: Places,
}

const ACTION: Places = &["/action"];
const REPOSITORY: Places = &["/repository/url", "/organization/url", "/sender/url"];
const NONE: Places = &[];

/// Maps one event to one change, whose key is the delivery.
#[weir_plugin::mapper]
pub fn changes(event: &Event, _settings: &Settings) -> Result<Vec<Change>> {
    let header = |name: &str| {
        let header = event.attributes.iter().find(|(header, _)| header == name);
        header
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| Error::new("missing-header", format!("there is no header {name}")))
    };
    let (name, id) = (header("x-github-event")?, header("x-github-delivery")?);
    let body: Value = serde_json::from_str(event.text()?)
        .map_err(|error| Error::new("broken-json", error.to_string()))?;
    let rule = rule(name);
    let found = |places: &[&str]| places.iter().find_map(|place| text(&body, place));

    let mut kind = format!("com.github.{}", in_types(name));
    for word in rule.words {
        if let Some(word) = text(&body, word) {
            kind = format!("{kind}.{word}");
        }
    }
    let Some(source) = source(name, &body).or_else(|| found(rule.source)) else {
        bail!(
            "missing-field",
            "the event does not say where it comes from"
        )
    };
    let time = match (name, text(&body, "/action").as_deref()) {
        ("release", Some("created")) => found(&["/release/created_at"]),
        _ => found(rule.time),
    };
    let version = time.as_deref().map(version_from_time).transpose()?;
    let attributes = Attributes {
        specversion: "1.0",
        id: id.to_owned(),
        source,
        r#type: kind,
        subject: found(rule.subject),
        time,
        datacontenttype: "application/json",
    };
    let change = Change::facet("delivery", id, "envelope", &attributes)?;
    Ok(vec![change.version(version)])
}

/// The name of an event in its type.
fn in_types(name: &str) -> &str {
    match name {
        "issues" => "issue",
        "installation_repositories" => "installation_repository",
        name => name,
    }
}

/// The source of an event whose rule makes it of more than one value.
fn source(name: &str, body: &Value) -> Option<String> {
    match name {
        "commit_comment" => {
            let (url, commit) = (
                text(body, "/comment/url")?,
                text(body, "/comment/commit_id")?,
            );
            Some(format!("{url}/{commit}"))
        }
        "marketplace_purchase" => {
            let sender = text(body, "/sender/url")?;
            Some(sender.rsplit_once('/')?.0.to_owned())
        }
        "security_advisory" => Some("github.com".to_owned()),
        _ => None,
    }
}

/// The text or number at a place; a number that is a time, in seconds, as a time.
fn text(body: &Value, place: &str) -> Option<String> {
    match body.pointer(place)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(seconds) if place.ends_with("_at") => {
            let time = jiff::Timestamp::from_second(seconds.as_i64()?).ok()?;
            Some(time.to_string())
        }
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn rule(name: &str) -> Rule {
    let (words, source, subject, time): (Places, Places, Places, Places) = match name {
        "check_run" => (
            ACTION,
            REPOSITORY,
            &["/check_run/id"],
            &["/check_run/completed_at", "/check_run/started_at"],
        ),
        "check_suite" => (
            ACTION,
            REPOSITORY,
            &["/check_suite/id"],
            &["/check_suite/updated_at"],
        ),
        "commit_comment" => (ACTION, NONE, &["/comment/id"], &["/comment/updated_at"]),
        "create" | "delete" => (&["/ref_type"], REPOSITORY, &["/ref"], NONE),
        "deploy_key" => (
            ACTION,
            REPOSITORY,
            &["/key/id"],
            &["/key/deleted_at", "/key/created_at"],
        ),
        "deployment" => (
            NONE,
            REPOSITORY,
            &["/deployment/id"],
            &["/deployment/updated_at"],
        ),
        "deployment_status" => (
            &["/deployment_status/state"],
            &["/deployment/url"],
            &["/deployment_status/url"],
            &["/deployment_status/updated_at"],
        ),
        "fork" => (NONE, REPOSITORY, &["/forkee/url"], &["/forkee/created_at"]),
        "github_app_authorization" => (NONE, &["/sender/url"], NONE, NONE),
        "gollum" => (NONE, REPOSITORY, NONE, NONE),
        "installation" | "installation_repositories" => (
            ACTION,
            &["/installation/account/url"],
            &["/installation/id"],
            &["/installation/updated_at"],
        ),
        "issue_comment" => (
            ACTION,
            &["/issue/url"],
            &["/comment/id"],
            &["/comment/updated_at"],
        ),
        "issues" => (
            ACTION,
            REPOSITORY,
            &["/issue/number"],
            &["/issue/updated_at"],
        ),
        "label" => (ACTION, REPOSITORY, &["/label/name"], NONE),
        "marketplace_purchase" => (
            ACTION,
            NONE,
            &["/marketplace_purchase/account/login"],
            &["/effective_date"],
        ),
        "member" => (ACTION, REPOSITORY, &["/member/login"], NONE),
        "membership" => (
            &["/scope", "/action"],
            &["/team/url", "/organization/url"],
            &["/member/login"],
            NONE,
        ),
        "meta" => (ACTION, REPOSITORY, &["/hook_id"], &["/hook/updated_at"]),
        "milestone" => (
            ACTION,
            REPOSITORY,
            &["/milestone/number"],
            &["/milestone/updated_at"],
        ),
        "organization" => (
            ACTION,
            &["/organization/url"],
            &["/membership/user/login"],
            NONE,
        ),
        "org_block" => (
            ACTION,
            &["/organization/url"],
            &["/blocked_user/login"],
            NONE,
        ),
        "page_build" => (NONE, REPOSITORY, &["/build/url"], &["/pusher/updated_at"]),
        "project" => (
            ACTION,
            REPOSITORY,
            &["/project/id"],
            &["/project/updated_at"],
        ),
        "project_card" => (
            ACTION,
            REPOSITORY,
            &["/project_card/id"],
            &["/project_card/updated_at"],
        ),
        "project_column" => (
            ACTION,
            REPOSITORY,
            &["/project_column/id"],
            &["/project_column/updated_at"],
        ),
        "public" | "repository_import" => (
            NONE,
            &["/repository/owner/url"],
            &["/repository/name"],
            &["/repository/updated_at"],
        ),
        "pull_request" => (
            ACTION,
            REPOSITORY,
            &["/number"],
            &["/pull_request/updated_at"],
        ),
        "pull_request_review" => (
            ACTION,
            &["/pull_request/url"],
            &["/review/id"],
            &["/review/submitted_at"],
        ),
        "pull_request_review_comment" => (
            ACTION,
            &["/pull_request/url"],
            &["/comment/id"],
            &["/pull_request/updated_at"],
        ),
        "push" => (NONE, REPOSITORY, &["/ref"], NONE),
        "release" => (
            ACTION,
            REPOSITORY,
            &["/release/id"],
            &["/release/published_at", "/release/created_at"],
        ),
        "repository" => (
            ACTION,
            &["/repository/owner/url"],
            &["/repository/name"],
            &["/repository/updated_at"],
        ),
        "repository_vulnerability_alert" => (ACTION, REPOSITORY, &["/alert/id"], NONE),
        "security_advisory" => (
            ACTION,
            NONE,
            &["/security_advisory/ghsa_id"],
            &["/security_advisory/updated_at"],
        ),
        "star" => (ACTION, REPOSITORY, NONE, &["/starred_at"]),
        "status" => (NONE, REPOSITORY, &["/sha"], &["/updated_at"]),
        "team" => (ACTION, REPOSITORY, &["/team/id"], &["/updated_at"]),
        "team_add" => (NONE, REPOSITORY, &["/team/id"], NONE),
        _ => (ACTION, REPOSITORY, NONE, NONE),
    };
    Rule {
        words,
        source,
        subject,
        time,
    }
}
