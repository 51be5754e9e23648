//! `weir send --dry-run`: what a source would make of files, without taking them.

use axum::http::Method;
use axum::http::header::AUTHORIZATION;

use super::super::client::{Client, bearer, path, pretty, with_query};
use super::super::table::{plain, short};
use super::super::{CommandResult, Failure};
use super::{SendArgs, content_type, headers, named_all, open, proof, with};
use crate::server::views::{
    ChangePreviewView, EventPreviewView, RequestPreviewView, SenderView, StageView,
};

pub(super) async fn run(args: &SendArgs, out: &mut String) -> CommandResult {
    let client = Client::at(args.admin_url.as_deref().unwrap_or(&args.url), None)?;
    let (proof, more) = (proof(args)?, named_all(args)?);
    let target = with_query(
        &path(&["v1", "sources", &args.source, "preview"]),
        &[("lane", args.lane.as_deref())],
    );
    let (mut succeeded, mut previews) = (true, Vec::new());
    for file in &args.files {
        let content = open(file)?;
        let content_type = content_type(args, file, &content);
        let mut headers = with(headers(&content_type, &proof, &content)?, &more);
        if let Some(token) = args.token.as_deref().filter(|token| !token.is_empty()) {
            headers.retain(|(name, _)| name != AUTHORIZATION);
            headers.push((AUTHORIZATION, bearer(token)?));
        }
        let response = client
            .request(Method::POST, &target, headers, content)
            .await?;
        if !response.status.is_success() {
            return Err(Failure::Failed(format!(
                "{}: {}",
                plain(&file.display().to_string()),
                response.problem()
            )));
        }
        let preview: RequestPreviewView = response.read()?;
        let taken = |event: &EventPreviewView| event.result != "quarantined";
        succeeded &= preview.sender.result != "not verified" && preview.events.iter().all(taken);
        if !args.json {
            out.push_str(&plain(&file.display().to_string()));
            out.push_str(&to_text(&preview));
        }
        previews.push(preview);
    }
    if args.json {
        out.push_str(&pretty(&previews));
    }
    Ok(succeeded)
}

fn to_text(preview: &RequestPreviewView) -> String {
    let mut text = format!(
        ": nothing is taken; the sender is {}\n",
        sender(&preview.sender)
    );
    for event in &preview.events {
        text.push_str(&event_text(event));
    }
    if preview.more_events > 0 {
        text.push_str(&format!(
            "  and {} more events, which were not looked at\n",
            preview.more_events
        ));
    }
    text
}

fn sender(view: &SenderView) -> String {
    let result = match (&*view.verify, &*view.result) {
        ("none", _) => return "not verified by this source".to_owned(),
        (_, result) => result,
    };
    match &view.detail {
        Some(detail) => format!(
            "{} ({}): {}",
            plain(result),
            plain(&view.verify),
            plain(detail)
        ),
        None => format!("{} ({})", plain(result), plain(&view.verify)),
    }
}

fn event_text(event: &EventPreviewView) -> String {
    let named = match &*event.event.id {
        "" => String::new(),
        id => format!(" (id {})", plain(id)),
    };
    let why = match (&event.code, &event.detail) {
        (Some(code), Some(detail)) => format!(": {}: {}", plain(code), plain(detail)),
        _ => String::new(),
    };
    let mut text = format!(
        "  event {}{named}: {}{why}\n",
        event.index,
        plain(&event.result)
    );
    event
        .stages
        .iter()
        .for_each(|it| text.push_str(&stage_text(it)));
    event
        .changes
        .iter()
        .for_each(|it| text.push_str(&change_text(it)));
    text
}

fn stage_text(stage: &StageView) -> String {
    let why = match &stage.detail {
        Some(detail) => format!(": {}", plain(detail)),
        None => String::new(),
    };
    let mut text = format!(
        "    {} {}: {}{why} ({} ms)\n",
        plain(&stage.role),
        plain(&stage.plugin),
        plain(&stage.result),
        stage.took_ms
    );
    for line in &stage.log {
        text.push_str(&format!(
            "      log {}: {}\n",
            plain(&line.level),
            plain(&line.message)
        ));
    }
    text
}

fn change_text(change: &ChangePreviewView) -> String {
    let value = match (&change.value, &change.cut) {
        (Some(value), _) => short(value.get()),
        (None, Some(cut)) => format!("{} bytes", cut.bytes),
        (None, None) => "(deleted)".to_owned(),
    };
    let result = match &change.result {
        Some(result) => plain(result),
        None => "not taken".to_owned(),
    };
    let owing = match &change.channels[..] {
        [] => String::new(),
        names => format!("; owed by {}", plain(&names.join(", "))),
    };
    format!(
        "    {}/{} {} = {}: {result}{owing}\n",
        plain(&change.entity_type),
        plain(&change.key),
        plain(&change.facet),
        plain(&value)
    )
}
